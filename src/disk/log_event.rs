//! The items of a log, as bytes: nothing is copied.

use super::{
    batch::{RawEvent, RawItem},
    recovered_event::{Recovered, RecoveredEvent},
    removed::StoredKey,
};
use crate::model::{ChannelName, EventKind, FrameLength, Seq};

/// One item of the log.
pub enum LogItem<'a> {
    /// An event.
    Event(LogEvent<'a>),
    /// The key of the publish whose events follow.
    Key(StoredKey),
}

/// An event of the log that has not been copied.
pub struct LogEvent<'a> {
    pub(super) seq: Seq,
    pub(super) event: RawEvent<'a>,
}

impl<'a> LogItem<'a> {
    /// An item of a batch that was written at `time_ms`. `next` is the seq of the item itself,
    /// if it is an event, or of the first event after a key.
    pub(super) fn of(item: RawItem<'a>, next: Seq, time_ms: u64) -> Self {
        match item {
            RawItem::Event(event) => Self::Event(LogEvent { seq: next, event }),
            RawItem::Key(key, events) => Self::Key(StoredKey { key, first: next, events, time_ms }),
        }
    }

    /// Copies the item; `None` for an event that this version does not know.
    pub fn recover(&self) -> Option<Recovered> {
        match self {
            Self::Event(event) => {
                let channel = ChannelName::parse(event.channel()).ok()?;
                event.recover(channel).map(Recovered::Event)
            }
            Self::Key(key) => Some(Recovered::Key(*key)),
        }
    }
}

impl LogEvent<'_> {
    /// The seq of the event.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The name of its channel.
    pub fn channel(&self) -> &str {
        self.event.channel
    }

    /// Whether the event is a publisher's or the hub's.
    pub fn kind(&self) -> EventKind {
        self.event.kind
    }

    /// When it was accepted, in milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.event.time_ms
    }

    /// The size of its frame; `None` if its text is not that of an event.
    pub fn frame_bytes(&self, length: FrameLength) -> Option<usize> {
        Some(length.of_text(self.event.text_bytes()?, self.seq))
    }

    /// Copies the event; `None` if its text is not that of an event.
    pub fn recover(&self, channel: ChannelName) -> Option<RecoveredEvent> {
        self.event.recover(self.seq, channel)
    }
}
