//! An event as it is read from the log.

use crate::model::{ChannelName, Draft, EventKind, Seq};

/// An event of the log.
#[derive(Debug)]
pub struct RecoveredEvent {
    /// Its number in the log.
    pub seq: Seq,
    /// When it was accepted, in milliseconds since 1970.
    pub time_ms: u64,
    /// A publisher's, or the hub's.
    pub kind: EventKind,
    /// Its channel.
    pub channel: ChannelName,
    /// Its text without its id.
    pub draft: Draft,
}
