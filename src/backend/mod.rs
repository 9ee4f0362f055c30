//! What holds history: the memory backend. Shared by reference; locks are held for bounded work
//! only and never across an await.

mod beginning;
mod channel;
mod collection;
mod directory;
mod forgotten;
mod journal;
mod memory;
mod reading;
mod replay;
mod shard_set;
#[cfg(test)]
mod tests;
mod walk;
mod watchers;

pub use beginning::{Begun, Resume};
pub use channel::{ChannelEntry, ChannelId, ChannelInfo};
pub use directory::{Directory, DirectoryFull};
pub use memory::MemoryBackend;
pub use reading::{Piece, Reading, Span};
pub use shard_set::{Concerned, ShardSet};
pub use watchers::{CountedPattern, Watchers};
