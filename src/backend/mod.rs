//! What holds history: the memory backend. Shared by reference; locks are held for bounded work
//! only and never across an await.

mod channel;
mod directory;
mod forgotten;
mod memory;
mod watchers;

pub use channel::{ChannelEntry, ChannelId, ChannelInfo};
pub use directory::{Directory, DirectoryFull};
pub use memory::{Member, MemoryBackend, Resume};
pub use watchers::{CountedPattern, Watchers};
