//! What a shard knows of a drain under way.

use crate::model::Seq;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    /// The end of its window: streams end then that have not been sent everything.
    pub(super) until_ms: u64,
    /// Until when connections that read are spread.
    pub(super) spread_until_ms: u64,
    /// Where the log was when it began.
    pub(super) head: Seq,
}
