//! What is known of channels ([`Registry`]) and of their events ([`EventStore`]). Shared by
//! reference; locks are held for bounded work only and never across an await.

mod channel;
mod channel_events;
mod directory;
mod event_store;
mod evicted_channels;
mod found;
mod incomplete;
mod journal;
mod last_on_disk;
mod last_search;
mod log_filter;
mod log_read;
mod losses;
mod outlines;
mod outlines_load;
mod pattern_counts;
mod piece;
mod ranking;
mod reader;
mod registry;
mod replay;
mod replay_heap;
mod search_memory;
mod shard_set;
mod start_search;
mod start_state;
#[cfg(test)]
mod tests;
mod throttles;
mod tombstones;
mod truncation;
mod walk;

pub use channel::{ChannelEntry, ChannelId, ChannelInfo};
pub use channel_events::ChannelEvents;
pub use directory::{Directory, DirectoryFull};
pub use event_store::EventStore;
pub use found::FoundEvents;
#[cfg(test)]
pub(crate) use last_search::LAST_EVENTS_MAX;
pub use last_search::{LastSearch, SearchKey, SearchStep};
pub use log_read::{LogRead, LogReadError};
pub use losses::LostThrough;
pub use outlines::{ChannelIndex, Outlines};
pub use outlines_load::LoadError;
pub use pattern_counts::{CountedPattern, PatternCounts};
pub use piece::{Piece, SeqRange};
pub use reader::HistoryReader;
pub use registry::Registry;
pub use search_memory::{SearchBytes, SearchMemory};
pub use shard_set::{ShardSet, TargetShards};
pub use start_search::{Resume, StartFound, StartRequest};
pub use throttles::{Release, Throttle, Throttles};
pub use tombstones::Tombstones;
