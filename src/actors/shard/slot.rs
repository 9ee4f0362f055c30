//! A slot: one connection with what the shard needs to serve it.
//!
//! A slot takes two cache lines, with all that a plain stream of one channel needs. State that only
//! other connections need (several channels, patterns, polls, connections that are BEHIND) is
//! boxed.

use std::{slice, sync::Arc};

use crate::{
    actors::{
        peer::SlotPeer,
        slot_key::SlotKey,
        subscriber::{Admission, CountedEntry, Form, PollTicket, Shape, Subscriber},
    },
    backend::{ChannelEntry, ChannelId, HistoryReader},
    core::Connection,
    model::{ChannelPattern, EventType, Framing, Seq, TransferCoding},
};

/// One connection.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) peer: SlotPeer,
    pub(super) subscriber: Subscribed,
    /// Its position in history while it is BEHIND.
    pub(super) reader: Option<Box<HistoryReader>>,
    /// Its deadline in the timer wheel; wheel entries with other times are stale.
    pub(super) check_ms: u64,
    pub(super) generation: u32,
    /// When it was attached, in seconds since 1970.
    pub(super) opened_s: u32,
    /// Bytes that its peer has taken.
    pub(super) sent_bytes: u64,
    /// Its index in its channel's list of plain streams, if it is one.
    pub(super) plain_index: u32,
    /// How its body is delimited.
    pub(super) coding: TransferCoding,
    /// Reads of history left in this pass.
    pub(super) reads_left: u8,
    /// Heartbeats written since the last block with an id.
    pub(super) heartbeats: u8,
    /// Whether it is on the engine's list of slots for a later pass.
    pub(super) is_queued: bool,
}

impl Slot {
    /// Its address, at `index`.
    pub(super) fn key(&self, index: u32) -> SlotKey {
        SlotKey { index, generation: self.generation }
    }
}

/// The subscriber of a slot.
#[derive(Debug)]
pub(super) enum Subscribed {
    /// A plain stream: all events of one channel, in the encoding of history, so it sends a round's
    /// bytes unchanged.
    Plain(PlainSubscriber),
    /// Any other.
    Full(Box<FullSubscriber>),
}

/// A plain stream of one channel.
#[derive(Debug)]
pub(super) struct PlainSubscriber {
    id: u64,
    entry: CountedEntry,
    _admission: Admission,
}

impl PlainSubscriber {
    /// Its channel's entry.
    pub(super) fn entry(&self) -> &Arc<ChannelEntry> {
        self.entry.entry()
    }

    /// Its channel.
    pub(super) fn channel(&self) -> ChannelId {
        self.entry.entry().id()
    }
}

/// A connection with several channels, patterns, a filter, another form, or a poll.
#[derive(Debug)]
pub(super) struct FullSubscriber {
    /// The latest rounds without an event for it.
    pub(super) skipped: SkippedRounds,
    pub(super) subscriber: Subscriber,
    pub(super) ticket: Option<PollTicket>,
}

/// Rounds that moved a cursor from `from` to `to` without an event for it. While the cursor is at
/// `to`, the client's last id is at or before `from`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SkippedRounds {
    from: Seq,
    to: Seq,
}

impl Subscribed {
    /// Converts `subscriber`, and drops what a plain stream does not need.
    pub(super) fn new(subscriber: Subscriber, ticket: Option<PollTicket>) -> Self {
        if !Self::is_plain(&subscriber) {
            return Self::Full(Box::new(FullSubscriber {
                skipped: SkippedRounds::default(),
                subscriber,
                ticket,
            }));
        }
        let Subscriber { id, mut named, admission, .. } = subscriber;
        let entry = named.pop().expect("a plain stream names one channel");
        Self::Plain(PlainSubscriber { id, entry, _admission: admission })
    }

    /// Whether it is a plain stream: all events of one channel, in the encoding of history.
    pub(super) fn is_plain(subscriber: &Subscriber) -> bool {
        subscriber.named.len() == 1 && subscriber.patterns.is_empty() && subscriber.shape.is_plain()
    }

    /// The connection's number.
    pub(super) fn id(&self) -> u64 {
        match self {
            Self::Plain(plain) => plain.id,
            Self::Full(full) => full.subscriber.id,
        }
    }

    /// The channels it names.
    pub(super) fn named(&self) -> impl Iterator<Item = &Arc<ChannelEntry>> + Clone {
        let counted = match self {
            Self::Plain(plain) => slice::from_ref(&plain.entry),
            Self::Full(full) => &full.subscriber.named,
        };
        counted.iter().map(CountedEntry::entry)
    }

    /// The number of named channels that are open, or whose closing event it gets after `cursor`.
    pub(super) fn open_names(&self, cursor: Seq) -> u16 {
        self.named().filter(|entry| entry.events().closing_event_due(cursor)).count() as u16
    }

    /// Its patterns.
    pub(super) fn patterns(&self) -> &[ChannelPattern] {
        match self {
            Self::Plain(_) => &[],
            Self::Full(full) => &full.subscriber.patterns,
        }
    }

    /// The wanted types; none means all.
    pub(super) fn types(&self) -> &[EventType] {
        match self {
            Self::Plain(_) => &[],
            Self::Full(full) => &full.subscriber.shape.types,
        }
    }

    /// Its shape; a plain stream's is `plain`.
    pub(super) fn shape<'a>(&'a self, plain: &'a Arc<Shape>) -> &'a Arc<Shape> {
        match self {
            Self::Plain(_) => plain,
            Self::Full(full) => &full.subscriber.shape,
        }
    }

    /// The framing of a stream.
    pub(super) fn framing(&self) -> Option<&'static dyn Framing> {
        match self {
            Self::Plain(_) => Form::Frames.framing(),
            Self::Full(full) => full.subscriber.shape.form.framing(),
        }
    }

    /// Records that a round without an event for it moved its cursor from `from` to `to`.
    pub(super) fn note_passed(&mut self, from: Seq, to: Seq) {
        if let Self::Full(full) = self {
            let begin = if full.skipped.to == from { full.skipped.from } else { from };
            full.skipped = SkippedRounds { from: begin, to };
        }
    }

    /// A lower bound of the seq in its client's last id, given its cursor.
    pub(super) fn last_id(&self, cursor: Seq) -> Seq {
        match self {
            Self::Full(full) if full.skipped.to == cursor => full.skipped.from,
            _ => cursor,
        }
    }

    /// The answer of a poll on HTTP/1.1 says that its connection closes.
    pub(super) fn close_after_answer(&mut self) {
        if let Self::Full(full) = self
            && let Some(ticket) = &mut full.ticket
        {
            ticket.keep_alive = false;
        }
    }

    /// The ticket of a poll.
    pub(super) fn ticket(&self) -> Option<&PollTicket> {
        match self {
            Self::Plain(_) => None,
            Self::Full(full) => full.ticket.as_ref(),
        }
    }
}

const _: () = assert!(
    cfg!(not(target_pointer_width = "64")) || size_of::<Option<Slot>>() == 128,
    "a slot is two cache lines"
);
