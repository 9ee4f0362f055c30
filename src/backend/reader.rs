//! Reads a subscription's events after its cursor: merges the channels it names, reads the journal
//! for its patterns, and merges the channels for events older than the journal. It does not read
//! events that are on disk alone: for these it returns `OnDisk(through)`.

use std::{mem, sync::Arc};

use super::{
    channel::ChannelEntry,
    event_store::EventStore,
    found::FoundEvents,
    journal::{Journal, filter_of},
    last_search::{LastSearch, SearchStep},
    log_filter::LogFilter,
    losses::{KnownLosses, Lost},
    piece::{Piece, SeqRange},
    replay::Replay,
    replay_heap::ReplayHeap,
    start_state::{Search, StartSearch},
};
use crate::{
    core::{FellOff, NotInMemory, Slice},
    model::{ChannelPattern, Gap, GapReason, Seq},
};

/// The state of a reader besides its cursor. A new reader has the default.
#[derive(Debug, Default)]
pub struct HistoryReader {
    pub(super) known: KnownLosses,
    pub(super) stage: ReadStage,
    /// What it wants of the log on disk; set at the first read there.
    pub(super) filter: Option<Arc<LogFilter>>,
    /// While there are transient channels: reads up to this seq go to the log on disk. When it was
    /// set, memory had no event up to it, and the reader knew of every loss up to it that the log
    /// on disk cannot make good. Later losses have a greater seq.
    pub(super) disk_through: Seq,
}

/// The stage of a reader.
#[derive(Debug, Default)]
pub(super) enum ReadStage {
    /// With patterns the reader reads the journal, without patterns the channels that it names.
    #[default]
    Direct,
    /// It searches for its start.
    Searching(Box<StartSearch>),
    /// It visits the channels that may have events for it.
    Collecting(Box<ReplayHeap>, Purpose),
    /// It merges these channels.
    Merging(Box<Replay>),
    /// It reads the events that a search has found.
    Found(FoundEvents),
}

/// Why a reader looks at channels.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// To merge those that have events.
    Merge,
    /// To move the cursor to where the log on disk begins, unless one of them has lost earlier
    /// events.
    SkipToDisk,
    /// To read the log on disk, unless one of them has lost events that are not there.
    ReadDisk,
}

impl HistoryReader {
    pub(super) fn searching(state: StartSearch) -> Self {
        Self { stage: ReadStage::Searching(Box::new(state)), ..Self::default() }
    }

    pub(super) fn knowing(known: KnownLosses) -> Self {
        Self { known, ..Self::default() }
    }

    /// Takes out the search for the start, if it waits for its share of memory to be granted, or
    /// has looked at all events in memory and goes on in the log on disk
    /// ([`search_log`](EventStore::search_log)). [`return_search`](Self::return_search) gives its
    /// result back.
    pub fn take_search(&mut self) -> Option<LastSearch> {
        let ReadStage::Searching(state) = &mut self.stage else { return None };
        match mem::replace(&mut state.search, Search::Taken) {
            Search::Last(mut search) if search.is_over_in_memory() => {
                search.shrink();
                Some(search)
            }
            Search::Last(search) if search.waits_for().is_some() => Some(search),
            search => {
                state.search = search;
                None
            }
        }
    }

    /// Gives back the search that was taken out, or the events that it has found.
    pub fn return_search(&mut self, step: SearchStep) {
        if let ReadStage::Searching(state) = &mut self.stage {
            state.search = match step {
                SearchStep::Begins(search) => Search::Last(search),
                SearchStep::Found(found) => Search::Found(found),
            };
        }
    }

    /// Whether [`search_start`](EventStore::search_start) has yet to find where the subscription
    /// starts.
    pub fn is_searching_start(&self) -> bool {
        matches!(self.stage, ReadStage::Searching(_))
    }
}

impl EventStore {
    /// The next piece of a subscription. A read that is not at its end continues at the piece's
    /// `through`; going back to a cursor within the last piece is cheap. The start of the
    /// subscription must be known.
    pub fn read<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        reader: &mut HistoryReader,
        range: &SeqRange,
    ) -> Result<Piece, NotInMemory> {
        debug_assert!(!reader.is_searching_start() && range.after <= range.through);
        let known = reader.known;
        match &mut reader.stage {
            ReadStage::Merging(replay) => match replay.read(known, range) {
                // At its end, or the cursor is before the merge: it is read as without one.
                None => {}
                // The merge ends: the log on disk is read in its own order, for all channels at
                // once.
                Some(Err(NotInMemory::OnDisk(_))) => reader.stage = ReadStage::Direct,
                Some(piece) => return piece,
            },
            ReadStage::Found(found) => match found.read(known, range) {
                // The reader has had all events that the subscription starts with.
                None => reader.stage = ReadStage::Direct,
                Some(piece) => return piece,
            },
            _ => {}
        }
        if range.after < reader.disk_through {
            return Err(NotInMemory::OnDisk(reader.disk_through));
        }
        if patterns.is_empty() {
            return self.read_named(named, reader, range);
        }
        let (mut heap, purpose) = match mem::take(&mut reader.stage) {
            ReadStage::Collecting(heap, purpose) if heap.after() == range.after => (heap, purpose),
            _ => {
                let wants = filter_of(patterns, named.clone());
                let journal = self.journal();
                if let Some(piece) = journal.read(&wants, known, range) {
                    return piece.map_err(|Lost(_)| NotInMemory::FellOff);
                }
                let (through, purpose) = self.before_journal(&journal, range);
                let has_lost = journal.unwritten_losses().are_unknown(range.after, known);
                if matches!(purpose, Purpose::ReadDisk) && !has_lost {
                    return Err(self.send_to_disk(reader, through));
                }
                (Box::new(ReplayHeap::new(known, range.after, through)), purpose)
            }
        };
        let nothing =
            |through| Piece { events: Vec::new(), through, more: through < range.through };
        let collected = heap.collect_some(self.registry().directory(), patterns, named);
        if !collected.map_err(|Lost(_)| FellOff)? {
            reader.stage = ReadStage::Collecting(heap, purpose);
            return Ok(Piece { more: true, ..nothing(range.after) });
        }
        match purpose {
            Purpose::SkipToDisk => {
                let through = heap.through().min(range.through).max(range.after);
                return Ok(nothing(through));
            }
            Purpose::ReadDisk => return Err(self.send_to_disk(reader, heap.through())),
            Purpose::Merge => {}
        }
        let mut replay = Box::new(heap.merge());
        // The merge is at its end already if no channel has anything to read.
        let piece = replay.read(known, range);
        let piece = piece.unwrap_or_else(|| Ok(nothing(replay.horizon().max(range.after))));
        if let Err(NotInMemory::OnDisk(_)) = piece {
            // Events have left memory meanwhile: the next read collects the channels, with their
            // losses, again.
            return Ok(Piece { more: true, ..nothing(range.after) });
        }
        reader.stage = ReadStage::Merging(replay);
        piece
    }

    /// For a reader of events that a search has found, which has come to a loss at `after`: the
    /// cursor before the next of these events that is still retained, and the gap to report. `None`
    /// for other readers. All losses so far then count as known to the reader.
    pub fn skip_lost(&self, reader: &mut HistoryReader, after: Seq) -> Option<(Seq, Gap)> {
        let ReadStage::Found(found) = &reader.stage else { return None };
        // Noted before the losses are looked at, so that later ones are unknown to the reader.
        reader.known = self.journal().known_losses(self.head());
        let cursor = found.cursor_after(after);
        let gap = Gap {
            reason: GapReason::Evicted,
            requested: self.position(after).to_string(),
            oldest: self.position(cursor),
            channel: None,
        };
        Some((cursor, gap))
    }

    /// How a reader of patterns comes to the events that the journal has dropped, and up to which
    /// seq.
    fn before_journal(&self, journal: &Journal, range: &SeqRange) -> (Seq, Purpose) {
        let Some(first) = self.first_on_disk() else { return (range.through, Purpose::Merge) };
        let disk_through = match self.has_transient() {
            // The events of transient channels that the journal does not have any more are in
            // memory alone.
            true => self.unloaded_through(),
            false => journal.after(),
        };
        if range.after >= disk_through {
            (range.through, Purpose::Merge)
        } else if range.after.next() < first {
            // Channels may have lost events from before the log on disk.
            (disk_through.min(Seq(first.0 - 1)), Purpose::SkipToDisk)
        } else {
            (disk_through, Purpose::ReadDisk)
        }
    }

    /// Sends a reader to the log on disk, up to `through`. The caller has checked that the reader
    /// knows of every loss up to now that the log on disk cannot make good.
    fn send_to_disk(&self, reader: &mut HistoryReader, through: Seq) -> NotInMemory {
        if self.has_transient() {
            reader.disk_through = through;
        }
        NotInMemory::OnDisk(through)
    }

    /// Merges the named channels of one connection. Their number is limited for each connection.
    fn read_named<'a>(
        &self,
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        reader: &mut HistoryReader,
        range: &SeqRange,
    ) -> Result<Piece, NotInMemory> {
        let known = reader.known;
        // Read before the channels: no channel has an event up to this seq in memory, so the log on
        // disk may be read that far.
        let unloaded_through = self.unloaded_through();
        let count = named.clone().count();
        let each = SeqRange {
            events_max: match count {
                0 | 1 => range.events_max,
                _ => (2 * range.events_max / count).max(4),
            },
            ..*range
        };
        let mut merged = Slice::default();
        // After the last event read of a channel that has more, the merge would leave holes.
        let mut horizon = range.through;
        let mut on_disk = None;
        for entry in named {
            if entry.events().last_seq() <= range.after && count > 1 {
                continue;
            }
            let part = match entry.events().read(known, &each) {
                Ok(part) => part,
                // Go on with the other channels: an unknown loss of one of them comes first.
                Err(NotInMemory::OnDisk(through)) => {
                    on_disk = on_disk.max(Some(through));
                    continue;
                }
                Err(lost) => return Err(lost),
            };
            if part.more {
                let last = part.events.last().map_or(range.after, |event| event.seq);
                horizon = horizon.min(last);
                merged.more = true;
            }
            match merged.events.is_empty() {
                true => merged.events = part.events,
                false => merged.events.extend(part.events),
            }
        }
        if let Some(through) = on_disk {
            let through = through.min(unloaded_through);
            // Events that left memory after `unloaded_through` was read are found at the next try.
            let try_again = Piece { events: Vec::new(), through: range.after, more: true };
            return if through > range.after {
                Err(self.send_to_disk(reader, through))
            } else {
                Ok(try_again)
            };
        }
        if count > 1 {
            merged.events.retain(|event| event.seq <= horizon);
            merged.events.sort_unstable_by_key(|event| event.seq);
            let mut bytes = 0;
            let within = merged.events.iter().take(range.events_max).take_while(|event| {
                let before = bytes;
                bytes += event.bytes().len();
                before < range.bytes_max
            });
            let within = within.count();
            merged.more |= within < merged.events.len();
            merged.events.truncate(within);
        }
        let through = match merged.events.last() {
            Some(last) if merged.more => last.seq,
            _ => range.through.max(range.after),
        };
        Ok(Piece { events: merged.events, through, more: merged.more })
    }
}
