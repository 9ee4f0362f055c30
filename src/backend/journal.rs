//! The latest events of the log in its order, whichever channels they are in.
//!
//! Pattern subscribers read it from their cursor on: the cost is that of the events since, not a
//! look at every channel. An entry whose event has been evicted stays, so that a reader finds the
//! loss in order; and channels that are created or evicted need no special case.

use std::{collections::VecDeque, sync::Arc};

use super::{
    channel::ChannelEntry,
    losses::{KnownLosses, Losses, Lost},
    piece::{Piece, SeqRange},
};
use crate::model::{ChannelName, ChannelPattern, Event, Seq};

/// One entry for each of the latest events, whether it is still in history or not.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    /// Every event after this seq has an entry.
    after: Seq,
    /// How many evictions there were. Each has its number, from one on.
    evictions: u64,
    /// The latest eviction of events that a log on disk may not have.
    unwritten: Losses,
}

#[derive(Debug)]
enum Entry {
    Kept(Arc<Event>),
    Gone { channel: ChannelName, eviction: u64 },
}

impl Journal {
    /// Adds the next event of the log.
    #[inline]
    pub(super) fn append(&mut self, event: Arc<Event>) {
        if event.seq.0 != self.after.0 + self.entries.len() as u64 + 1 {
            // Seqs were skipped at an earlier start; see `disk::Recovery`.
            self.entries.clear();
            self.after = Seq(event.seq.0 - 1);
        }
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
            self.after = self.after.next();
        }
        self.entries.push_back(Entry::Kept(event));
    }

    /// Begins after `after`. `evictions` is the number of evictions when the histories were
    /// counted.
    pub(super) fn begin_with(&mut self, after: Seq, evictions: u64) {
        self.reset(after);
        self.evictions = evictions;
    }

    /// Adds the next event of the log, which has been evicted. It gets the number of the latest
    /// eviction, whichever has removed it: there are no readers yet, so none knows only some of the
    /// evictions.
    pub(super) fn append_evicted(&mut self, seq: Seq, channel: ChannelName) {
        debug_assert_eq!(seq.0, self.after.0 + self.entries.len() as u64 + 1);
        let eviction = self.evictions;
        self.entries.push_back(Entry::Gone { channel, eviction });
    }

    /// How far the journal reaches back in a log that ends with `last`: at most to the event after
    /// the returned seq.
    pub(super) fn reach_back(last: Seq) -> Seq {
        Seq(last.0.saturating_sub(ENTRIES_MAX as u64))
    }

    /// The log continues after `head`, and has no events between its last one and `head`.
    pub(super) fn skip_to(&mut self, head: Seq) {
        if head.0 > self.after.0 + self.entries.len() as u64 {
            self.entries.clear();
            self.after = head;
        }
    }

    /// Drops all events, and continues after `head`.
    pub(super) fn reset(&mut self, head: Seq) {
        self.entries.clear();
        self.after = head;
    }

    /// The whole state as text, without the numbers of evictions.
    #[cfg(test)]
    pub(super) fn describe(&self) -> String {
        let entries = self.entries.iter().map(|entry| match entry {
            Entry::Kept(event) => format!("{event:?}"),
            Entry::Gone { channel, eviction } => {
                assert!((1..=self.evictions).contains(eviction));
                format!("{channel} is gone")
            }
        });
        let entries: Vec<_> = entries.collect();
        format!("{:?} {} {:?} {entries:#?}", self.after, self.evictions, self.unwritten)
    }

    /// Notes that these events of one channel are gone; gives the number of the eviction.
    #[inline]
    pub(super) fn evict(&mut self, seqs: &[Seq]) -> u64 {
        self.evictions += 1;
        for seq in seqs {
            let Some(index) = seq.0.checked_sub(self.after.0 + 1) else { continue };
            let Some(entry) = self.entries.get_mut(index as usize) else { continue };
            if let Entry::Kept(event) = entry {
                let channel = event.channel.clone();
                *entry = Entry::Gone { channel, eviction: self.evictions };
            }
        }
        self.evictions
    }

    /// Drops the entries up to `through`, so that the bodies of their events can leave memory.
    pub(super) fn unload_through(&mut self, through: Seq) {
        while self.after < through && self.entries.pop_front().is_some() {
            self.after = self.after.next();
        }
    }

    /// Every event after this seq has an entry.
    pub(super) fn after(&self) -> Seq {
        self.after
    }

    /// Notes that the latest eviction removed events up to `through` that a log on disk may not
    /// have.
    pub(super) fn lose_unwritten(&mut self, through: Seq) {
        let through = self.unwritten.through.max(through);
        self.unwritten = Losses { through, eviction: self.evictions };
    }

    /// The losses, in any channel, of events that a log on disk may not have.
    pub(super) fn unwritten_losses(&self) -> Losses {
        self.unwritten
    }

    /// Whether any event has been evicted since the log was opened.
    pub(super) fn has_evicted(&self) -> bool {
        self.evictions > 0
    }

    /// The losses so far of events up to `through`.
    pub(super) fn known_losses(&self, through: Seq) -> KnownLosses {
        KnownLosses { evictions: self.evictions, through }
    }

    /// The events of matching channels in `range`, limited by [`READ_ENTRIES_MAX`]; `None` if the
    /// journal no longer reaches back to `range.after`. A loss that the reader does not know of
    /// ends the read.
    pub(super) fn read(
        &self,
        filter: &ChannelFilter<impl Fn(&ChannelName) -> bool>,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Option<Result<Piece, Lost>> {
        let mut matcher = Matcher::new(filter);
        let mut piece = Piece { events: Vec::new(), through: range.after, more: true };
        let mut bytes = 0;
        for entry in self.entries.range(self.index_after(range.after)?..).take(READ_ENTRIES_MAX) {
            if piece.through >= range.through || matcher.budget_exhausted() {
                break;
            }
            #[cfg(test)]
            super::tests::look();
            match entry {
                Entry::Kept(event) if matcher.matches(&event.channel) => {
                    if piece.events.len() >= range.events_max || bytes >= range.bytes_max {
                        return Some(Ok(piece));
                    }
                    bytes += event.bytes().len();
                    piece.events.push(Arc::clone(event));
                }
                Entry::Gone { channel, eviction }
                    if !known.covers(piece.through.next(), *eviction)
                        && matcher.matches(channel) =>
                {
                    // The events before the loss are sent first.
                    return Some(match piece.events.is_empty() {
                        true => Err(Lost(Some(channel.clone()))),
                        false => Ok(piece),
                    });
                }
                _ => {}
            }
            piece.through = piece.through.next();
        }
        piece.more = piece.through < range.through;
        Some(Ok(piece))
    }

    /// Looks for losses of the channels that match in `range`; returns how far it has
    /// looked. `None` when the journal does not reach back that far.
    pub(super) fn find_losses(
        &self,
        filter: &ChannelFilter<impl Fn(&ChannelName) -> bool>,
        range: &SeqRange,
    ) -> Option<Result<Seq, Lost>> {
        let mut matcher = Matcher::new(filter);
        let mut through = range.after;
        for entry in self.entries.range(self.index_after(range.after)?..).take(READ_ENTRIES_MAX) {
            if through >= range.through || matcher.budget_exhausted() {
                break;
            }
            #[cfg(test)]
            super::tests::look();
            if let Entry::Gone { channel, .. } = entry
                && matcher.matches(channel)
            {
                return Some(Err(Lost(Some(channel.clone()))));
            }
            through = through.next();
        }
        Some(Ok(through))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn index_after(&self, seq: Seq) -> Option<usize> {
        let index = seq.0.checked_sub(self.after.0)? as usize;
        (index <= self.entries.len()).then_some(index)
    }
}

/// Decides whether a subscription receives a channel; `weight` is about how many comparisons that
/// takes.
pub(super) struct ChannelFilter<F> {
    pub(super) matches: F,
    pub(super) weight: usize,
}

/// The filter of a subscription.
pub(super) fn filter_of<'a>(
    patterns: &[ChannelPattern],
    named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
) -> ChannelFilter<impl Fn(&ChannelName) -> bool> {
    ChannelFilter {
        weight: patterns.iter().map(ChannelPattern::weight).sum::<usize>() + named.clone().count(),
        matches: move |channel: &ChannelName| {
            patterns.iter().any(|pattern| pattern.matches(channel))
                || named.clone().any(|entry| entry.name() == channel)
        },
    }
}

/// Matches channels within the comparisons that one read may make. Consecutive events of a channel
/// are compared once.
struct Matcher<'a, F> {
    filter: &'a ChannelFilter<F>,
    last: Option<(*const u8, bool)>,
    compared: usize,
}

impl<'a, F: Fn(&ChannelName) -> bool> Matcher<'a, F> {
    fn new(filter: &'a ChannelFilter<F>) -> Self {
        Self { filter, last: None, compared: 0 }
    }

    /// Publishers wait for the journal's lock, and clients choose how many selectors a channel is
    /// compared with, so one read is limited to [`READ_COMPARISONS_MAX`] comparisons.
    fn budget_exhausted(&self) -> bool {
        self.compared >= READ_COMPARISONS_MAX
    }

    fn matches(&mut self, channel: &ChannelName) -> bool {
        // Events of one channel share its name.
        let address = channel.as_str().as_ptr();
        match self.last {
            Some((last, matches)) if last == address => matches,
            _ => {
                self.compared += self.filter.weight;
                let matches = (self.filter.matches)(channel);
                self.last = Some((address, matches));
                matches
            }
        }
    }
}

/// Events with an entry; readers whose position is older replay channel by channel. 24 bytes each.
const ENTRIES_MAX: usize = if cfg!(test) { 16 } else { 65_536 };
/// Entries that one read looks at, while it holds the lock.
const READ_ENTRIES_MAX: usize = if cfg!(test) { 5 } else { 4_096 };
/// Comparisons of a name with a selector in one read ([`ChannelPattern::weight`]); past that it
/// ends early.
///
/// [`ChannelPattern::weight`]: crate::model::ChannelPattern::weight
const READ_COMPARISONS_MAX: usize = if cfg!(test) { 8 } else { 1_024 };
