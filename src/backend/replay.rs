//! Replay for pattern subscribers whose position is older than the journal: merges the channels
//! that have events for them, by their next events.
//!
//! The merge holds a bounded number of channels: those whose next events are the oldest. It ends at
//! its horizon: up to there no other channel has an event. Then the channels are collected again
//! ([`ReplayHeap`](super::replay_heap::ReplayHeap)). So a slow reader holds bounded memory, and the
//! cost of a piece is that of its events, not a look at every channel. With a log on disk, that log
//! is read instead, and a merge only finds the oldest event.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use super::{
    channel::{ChannelEntry, ChannelId},
    losses::KnownLosses,
    piece::{Piece, SeqRange},
};
use crate::{core::NotInMemory, model::Seq};

/// A merge under way.
#[derive(Debug)]
pub(super) struct Replay {
    /// Channels by their next event. An entry may be out of date; it is corrected when it comes
    /// to the top.
    next: BinaryHeap<Reverse<Next>>,
    /// The reads so far have returned all events up to this seq.
    at: Seq,
    /// The merge has every channel with an event up to this seq.
    horizon: Seq,
    /// The cursor before the last piece, and the events of that piece: the client may have accepted
    /// only part of them, and the rest is then read again.
    from: Seq,
    given: Vec<Next>,
}

/// A channel and its next event.
#[derive(Debug, Clone)]
pub(super) struct Next {
    seq: Seq,
    entry: Arc<ChannelEntry>,
}

impl Next {
    pub(super) fn new(seq: Seq, entry: &Arc<ChannelEntry>) -> Self {
        Self { seq, entry: Arc::clone(entry) }
    }

    /// Its channel.
    pub(super) fn channel_id(&self) -> ChannelId {
        self.entry.id()
    }

    /// Its channel's record.
    pub(super) fn entry(&self) -> &Arc<ChannelEntry> {
        &self.entry
    }

    /// Its seq.
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether a reader that has everything up to `seq` lacks it.
    pub(super) fn is_after(&self, seq: Seq) -> bool {
        self.seq > seq
    }

    /// Whether it comes before another event.
    pub(super) fn is_before(&self, seq: Seq) -> bool {
        self.seq < seq
    }

    /// The cursor of a reader that has everything before it.
    pub(super) fn seq_before(&self) -> Seq {
        Seq(self.seq.0 - 1)
    }
}

impl Replay {
    /// A merge of the channels that were found to have events after `after` and up to `horizon`.
    pub(super) fn new(channels: BinaryHeap<Next>, after: Seq, horizon: Seq) -> Self {
        let next = channels.into_iter().map(Reverse).collect();
        Self { next, at: after, horizon, from: after, given: Vec::new() }
    }

    /// The merge has every channel with an event up to this seq.
    pub(super) fn horizon(&self) -> Seq {
        self.horizon
    }

    /// The seq of the oldest event that is still retained.
    pub(super) fn oldest(&mut self) -> Option<Seq> {
        while let Some(Reverse(top)) = self.next.pop() {
            let after = self.at.max(top.seq_before());
            let next = top.entry.events().next_after(after, KnownLosses::ALL).ok().flatten();
            match next.filter(|seq| *seq <= self.horizon) {
                Some(seq) if seq == top.seq => {
                    self.next.push(Reverse(top));
                    return Some(seq);
                }
                Some(seq) => self.next.push(Reverse(Next { seq, ..top })),
                None => {}
            }
        }
        None
    }

    /// Moves the merge on to `seq` without a read: the caller has found the oldest event behind it.
    pub(super) fn start_after(&mut self, seq: Seq) {
        (self.at, self.from) = (seq, seq);
    }

    /// The next piece after `range.after`; `None` if that seq is before the last piece, or at the
    /// end of the merge.
    pub(super) fn read(
        &mut self,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Option<Result<Piece, NotInMemory>> {
        if range.after < self.from || range.after >= self.horizon {
            return None;
        }
        if range.after < self.at {
            let again = self.given.drain(..).filter(|next| next.seq > range.after);
            self.next.extend(again.map(Reverse));
        }
        self.given.clear();
        (self.at, self.from) = (range.after, range.after);
        Some(self.merge(known, range))
    }

    fn merge(&mut self, known: KnownLosses, range: &SeqRange) -> Result<Piece, NotInMemory> {
        let through = self.horizon.min(range.through);
        let mut piece = Piece { events: Vec::new(), through, more: through < range.through };
        let mut bytes = 0;
        while let Some(Reverse(top)) = self.next.pop() {
            #[cfg(test)]
            super::tests::look();
            if top.seq > through {
                self.next.push(Reverse(top));
                break;
            }
            // After going back a channel may be in the heap twice.
            while self.next.peek().is_some_and(|Reverse(next)| next.seq == top.seq) {
                self.next.pop();
            }
            if piece.events.len() >= range.events_max || bytes >= range.bytes_max {
                self.next.push(Reverse(top));
                (piece.through, piece.more) = (self.at, true);
                return Ok(piece);
            }
            // One channel at a time, up to the next event of another.
            let other = self.next.peek().map_or(through, |Reverse(next)| Seq(next.seq.0 - 1));
            let part = SeqRange {
                // Earlier events of the channel were already read, or were skipped by the start.
                after: self.at.max(top.seq_before()),
                through: through.min(other.max(top.seq)),
                events_max: range.events_max - piece.events.len(),
                bytes_max: range.bytes_max - bytes,
            };
            let (slice, next) = match top.entry.events().read_and_next(known, &part) {
                Ok(read) => read,
                // Events before the loss are still sent.
                Err(_) if !piece.events.is_empty() => {
                    self.next.push(Reverse(top));
                    (piece.through, piece.more) = (self.at, true);
                    return Ok(piece);
                }
                Err(lost) => {
                    self.next.push(Reverse(top));
                    return Err(lost);
                }
            };
            for event in &slice.events {
                bytes += event.bytes().len();
                self.at = event.seq;
                self.given.push(Next { seq: event.seq, entry: Arc::clone(&top.entry) });
            }
            piece.events.extend(slice.events);
            if let Some(seq) = next.filter(|seq| *seq <= self.horizon) {
                self.next.push(Reverse(Next { seq, ..top }));
            }
        }
        self.at = through;
        Ok(piece)
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.seq.cmp(&other.seq)
    }
}
