//! The items of a log, copied.

use super::removed::StoredKey;
use crate::model::{ChannelName, Draft, EventKind, Seq};

/// One item of the log.
#[derive(Debug)]
pub enum Recovered {
    /// An event.
    Event(RecoveredEvent),
    /// The key of the publish whose events follow.
    Key(StoredKey),
}

/// An event of the log.
#[derive(Debug)]
pub struct RecoveredEvent {
    /// The seq of the event.
    pub seq: Seq,
    /// When it was accepted, in milliseconds since 1970.
    pub time_ms: u64,
    /// Whether the event is a publisher's or the hub's.
    pub kind: EventKind,
    /// Its channel.
    pub channel: ChannelName,
    /// Its text without its id.
    pub draft: Draft,
}
