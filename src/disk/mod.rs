//! The log on disk: segments of batches, written by one thread and fsynced before any client sees
//! their events (docs/adr/031-a-log-on-disk.md).
//!
//! [`LogReader`] reads older events, for readers of history
//! (docs/adr/034-history-beyond-memory.md).
//! Nothing here knows of channels' histories, subscribers or tasks: it stores what it is handed,
//! says when that is durable, and reads it back.

#[macro_use]
mod planted;

mod batch;
mod data_dir;
mod directory;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod index;
mod keeper;
mod log_event;
mod log_reader;
mod meta;
mod read_cache;
mod recovered_event;
mod recovery;
mod removed;
mod repair;
#[cfg(test)]
mod rot;
mod search_back;
mod segment;
mod segment_reader;
mod segments;
#[cfg(test)]
mod shortage;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod simulated_medium;
#[cfg(test)]
mod simulation;
mod small_file;
#[cfg(test)]
mod small_log;
mod sync_policy;
#[cfg(test)]
mod tests;
mod transient;
#[cfg(test)]
mod traps;
mod writer;

pub use data_dir::{DataDir, LocalDirectory};
pub use directory::{Directory, DirectoryFile};
pub use error::{OpenError, WriteError};
pub use index::ChannelHash;
pub use keeper::{Histories, LogKeeper, LogRetention};
pub use log_event::{LogEvent, LogItem};
pub use log_reader::{LogFound, LogReader, LogSearch, ReadError};
#[cfg(test)]
pub(crate) use planted::{Planted, plant};
pub use recovered_event::{Recovered, RecoveredEvent};
pub use recovery::{LogContents, LogStatus, OpenLog, Recovery, RecoveryReport, SegmentContents};
pub use removed::{RemovedEvents, RemovedLimits, StoredKey};
pub use repair::Damage;
pub use search_back::{SearchBack, SearchedBack};
pub use segments::LOG_FILES_MAX;
#[cfg(test)]
pub(crate) use simulated::{SimulatedDisk, Stop};
pub use sync_policy::{SyncPolicy, SyncPolicyError};
pub use transient::TransientChannels;
pub use writer::LogWriter;
