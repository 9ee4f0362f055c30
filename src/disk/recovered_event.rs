//! What the log holds, as it is read from it.

use super::removed::StoredKey;
use crate::model::{ChannelName, Draft, EventKind, Seq};

/// One thing that the log holds.
#[derive(Debug)]
pub enum Recovered {
    /// An event.
    Event(RecoveredEvent),
    /// The key under which the events that follow were published.
    Key(StoredKey),
}

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
