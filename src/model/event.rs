//! Events as the log keeps them.

use std::borrow::Cow;

use bytes::Bytes;

use super::{ChannelName, Epoch, EventType, Frame, Position, Seq};

/// Who made an event: a publisher or the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A publisher's.
    Published,
    /// The last one of its channel.
    Closed,
}

/// An event in the log: immutable, shared by all connections that receive it.
#[derive(Debug)]
pub struct Event {
    /// Its position in the log.
    pub seq: Seq,
    /// The log it is in.
    pub epoch: Epoch,
    /// When it was accepted by the wall clock, in milliseconds since 1970: what clients are shown.
    pub time_ms: u64,
    /// The same by the hub's clock, which never steps: what its age is reckoned by.
    pub accepted_ms: u64,
    /// Its channel.
    pub channel: ChannelName,
    /// A publisher's, or the hub's.
    pub kind: EventKind,
    /// Its SSE text.
    pub frame: Frame,
}

impl Event {
    /// What an event costs in history beside its frame, in bytes: itself, its counts, and its entry
    /// in the deque.
    pub const OVERHEAD_BYTES: u64 = (size_of::<Self>() + 40) as u64;

    /// A publisher's event, for tests.
    #[cfg(test)]
    pub(crate) fn published(
        position: Position,
        channel: &ChannelName,
        at_ms: u64,
        new: &super::NewEvent,
    ) -> Self {
        Self {
            seq: position.seq,
            epoch: position.epoch,
            time_ms: at_ms,
            accepted_ms: at_ms,
            channel: channel.clone(),
            kind: EventKind::Published,
            frame: super::Draft::new(new).finish(position),
        }
    }

    /// The position a client has after it.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }

    /// The bytes of the event on a plain stream to an HTTP/1.1 client, chunk framing included.
    pub fn bytes(&self) -> &Bytes {
        self.frame.bytes()
    }

    /// Its SSE text, without chunk framing.
    pub fn text(&self) -> &[u8] {
        self.frame.text()
    }

    /// Its type, or `message`.
    pub fn event_type(&self) -> &str {
        self.frame.event_type().unwrap_or(EventType::DEFAULT)
    }

    /// Its data as the publisher sent it (with LF for every line end).
    pub fn data(&self) -> Cow<'_, str> {
        self.frame.data()
    }
}
