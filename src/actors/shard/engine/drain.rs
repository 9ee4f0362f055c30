//! The state of a drain on a shard.

use crate::model::Seq;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// The end of the window: streams that have not been sent everything are ended then.
    pub(super) until_ms: u64,
    /// Until when the ends of connections are spread.
    pub(super) spread_until_ms: u64,
    /// The head of the log when the drain began.
    pub(super) head: Seq,
    /// The slots before this one have their end times.
    pub(super) set_to: usize,
}
