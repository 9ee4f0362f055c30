//! Replay for who stands before the journal and subscribes to patterns: a merge of the channels
//! that have something to give, by their next events.
//!
//! The merge holds a bounded number of channels: those whose next events are the oldest. It goes
//! as far as it knows no other channel to have an event, then they are collected again. So a
//! reader that is held up keeps a bounded piece of memory, and a piece of the replay costs what it
//! gives, not a look at every channel.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use super::{
    channel::ChannelEntry,
    directory::Directory,
    reading::{Piece, Span, Told},
};
use crate::{
    core::FellOff,
    model::{ChannelName, ChannelPattern, Seq},
};

/// A merge under way.
#[derive(Debug)]
pub(super) struct Replay {
    /// Channels by their next event. An entry may be out of date; it is corrected when it comes
    /// to the top.
    next: BinaryHeap<Reverse<Next>>,
    /// Everything up to here has been given.
    at: Seq,
    /// It is complete up to here.
    horizon: Seq,
    /// Where the last piece began, and the events it gave, to go back to: the client may not have
    /// taken all of it.
    from: Seq,
    given: Vec<Next>,
}

#[derive(Debug, Clone)]
struct Next {
    seq: Seq,
    entry: Arc<ChannelEntry>,
}

/// A loss that has not been told; its channel if that is known.
#[derive(Debug)]
pub(super) struct LostSome(pub(super) Option<ChannelName>);

impl Replay {
    /// Collects the channels of a subscription that have events in `span`.
    pub(super) fn collect<'a>(
        directory: &Directory,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        told: Told,
        after: Seq,
        through: Seq,
    ) -> Result<Self, LostSome> {
        let mut oldest: BinaryHeap<Next> = BinaryHeap::new();
        let mut horizon = through;
        let mut consider = |entry: &Arc<ChannelEntry>| {
            let next = entry.next_after(after, told);
            let seq = next.map_err(|FellOff| LostSome(Some(entry.name().clone())))?;
            if let Some(seq) = seq.filter(|seq| *seq <= horizon) {
                oldest.push(Next { seq, entry: Arc::clone(entry) });
                if oldest.len() > CHANNELS_MAX
                    && let Some(newest) = oldest.pop()
                {
                    horizon = Seq(newest.seq.0 - 1);
                }
            }
            Ok(())
        };
        named.clone().try_for_each(&mut consider)?;
        for (nth, pattern) in patterns.iter().enumerate() {
            let mut page = directory.names_matching(pattern, None);
            loop {
                for entry in &page.entries {
                    let name = entry.name();
                    let known = named.clone().any(|named| named.id() == entry.id())
                        || patterns[..nth].iter().any(|pattern| pattern.matches(name));
                    if !known {
                        consider(entry)?;
                    }
                }
                let Some(last) = page.last else { break };
                page = directory.names_matching(pattern, Some(&last));
            }
        }
        // Last, so that a channel which was forgotten on the way is seen here.
        if directory.has_forgotten(patterns, after, told) {
            return Err(LostSome(None));
        }
        let next = oldest.into_iter().map(Reverse).collect();
        Ok(Self { next, at: after, horizon, from: after, given: Vec::new() })
    }

    /// Where the oldest event is that is still there, as of now.
    pub(super) fn oldest(&mut self) -> Option<Seq> {
        while let Some(Reverse(top)) = self.next.pop() {
            let next = top.entry.next_after(self.at, Told::ALL).ok().flatten();
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

    /// Moves on without reading, to before the oldest event.
    pub(super) fn start_after(&mut self, seq: Seq) {
        (self.at, self.from) = (seq, seq);
    }

    /// The next piece after `span.after`; nothing when this is not where the merge stands, or it
    /// has come to its end.
    pub(super) fn read(&mut self, told: Told, span: &Span) -> Option<Result<Piece, FellOff>> {
        if span.after < self.from || span.after >= self.horizon {
            return None;
        }
        if span.after < self.at {
            let again = self.given.drain(..).filter(|next| next.seq > span.after);
            self.next.extend(again.map(Reverse));
        }
        self.given.clear();
        (self.at, self.from) = (span.after, span.after);
        Some(self.merge(told, span))
    }

    fn merge(&mut self, told: Told, span: &Span) -> Result<Piece, FellOff> {
        let through = self.horizon.min(span.through);
        let mut piece = Piece { events: Vec::new(), through, more: through < span.through };
        let mut bytes = 0;
        while let Some(Reverse(top)) = self.next.pop() {
            #[cfg(test)]
            super::tests::look();
            if top.seq > through {
                self.next.push(Reverse(top));
                break;
            }
            // What was gone back to may be there twice.
            while self.next.peek().is_some_and(|Reverse(next)| next.seq == top.seq) {
                self.next.pop();
            }
            if piece.events.len() >= span.events_max || bytes >= span.bytes_max {
                self.next.push(Reverse(top));
                (piece.through, piece.more) = (self.at, true);
                return Ok(piece);
            }
            // One channel at a time, up to the next event of another.
            let other = self.next.peek().map_or(through, |Reverse(next)| Seq(next.seq.0 - 1));
            let part = Span {
                after: self.at,
                through: through.min(other.max(top.seq)),
                events_max: span.events_max - piece.events.len(),
                bytes_max: span.bytes_max - bytes,
            };
            let slice = match top.entry.read(told, &part) {
                Ok(slice) => slice,
                // What comes before the loss is still due.
                Err(_) if !piece.events.is_empty() => {
                    self.next.push(Reverse(top));
                    (piece.through, piece.more) = (self.at, true);
                    return Ok(piece);
                }
                Err(lost) => return Err(lost),
            };
            for event in &slice.events {
                bytes += event.bytes().len();
                self.at = event.seq;
                self.given.push(Next { seq: event.seq, entry: Arc::clone(&top.entry) });
            }
            piece.events.extend(slice.events);
            let next = top.entry.next_after(self.at.max(top.seq), Told::ALL).ok().flatten();
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

/// Channels of one merge, 16 bytes each.
const CHANNELS_MAX: usize = if cfg!(test) { 3 } else { 4_096 };
