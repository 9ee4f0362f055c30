//! Reads a subscription's events after its cursor: merges the channels it names, reads the journal
//! for its patterns, and replays events older than the journal. With a log on disk it says instead up to
//! where that has to be read.

use std::{mem, sync::Arc};

use super::{
    channel::ChannelEntry,
    event_store::EventStore,
    journal::filter_of,
    log_filter::LogFilter,
    losses::{KnownLosses, Lost},
    piece::{Piece, SeqRange},
    replay::Replay,
    replay_heap::ReplayHeap,
    start_state::StartSearch,
};
use crate::{
    core::{FellOff, NotInMemory, Slice},
    model::{ChannelPattern, Seq},
};

/// The state of a reader besides its cursor. A new reader has the default.
#[derive(Debug, Default)]
pub struct HistoryReader {
    pub(super) known: KnownLosses,
    pub(super) stage: ReadStage,
    /// What it reads of the log on disk, once it has done so.
    pub(super) filter: Option<Arc<LogFilter>>,
}

/// The stage of a reader.
#[derive(Debug, Default)]
pub(super) enum ReadStage {
    /// It reads the journal, or has no patterns.
    #[default]
    Direct,
    /// It searches for its start.
    Searching(Box<StartSearch>),
    /// It collects the channels that have events for it.
    Collecting(Box<ReplayHeap>),
    /// It merges these channels: all it has, or some of their events.
    Merging(Box<Replay>),
}

impl HistoryReader {
    pub(super) fn searching(state: StartSearch) -> Self {
        Self { stage: ReadStage::Searching(Box::new(state)), ..Self::default() }
    }

    pub(super) fn knowing(known: KnownLosses) -> Self {
        Self { known, ..Self::default() }
    }

    /// Whether it has yet to be found out where the subscription starts, by
    /// [`search_start`](EventStore::search_start).
    pub fn is_searching_start(&self) -> bool {
        matches!(self.stage, ReadStage::Searching(_))
    }
}

impl EventStore {
    /// The next piece of a subscription. A read that is not at its end goes on at the piece's
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
        if let ReadStage::Merging(replay) = &mut reader.stage
            && let Some(piece) = replay.read(known, range)
        {
            if matches!(piece, Err(NotInMemory::OnDisk(_))) {
                // The log on disk is read in its order, with the events of all channels.
                reader.stage = ReadStage::Direct;
            }
            return piece;
        }
        if patterns.is_empty() {
            return self.merge(named, known, range);
        }
        let first_on_disk = self.first_on_disk();
        let mut heap = match mem::take(&mut reader.stage) {
            ReadStage::Collecting(heap) if heap.after() == range.after => heap,
            _ => {
                let wants = filter_of(patterns, named.clone());
                let journal = self.journal();
                if let Some(piece) = journal.read(&wants, known, range) {
                    return piece.map_err(|Lost(_)| NotInMemory::FellOff);
                }
                match first_on_disk {
                    Some(first) if range.after.next() >= first => {
                        return Err(NotInMemory::OnDisk(journal.after()));
                    }
                    // Channels may have lost events that the log on disk has not any more.
                    Some(first) => Box::new(ReplayHeap::new(known, range.after, Seq(first.0 - 1))),
                    None => Box::new(ReplayHeap::new(known, range.after, range.through)),
                }
            }
        };
        let nothing =
            |through| Piece { events: Vec::new(), through, more: through < range.through };
        let collected = heap.collect_some(self.registry().directory(), patterns, named);
        if !collected.map_err(|Lost(_)| FellOff)? {
            reader.stage = ReadStage::Collecting(heap);
            return Ok(Piece { more: true, ..nothing(range.after) });
        }
        if first_on_disk.is_some() {
            // The reader lacks nothing up to where the log on disk began.
            let through = heap.through().min(range.through).max(range.after);
            return Ok(nothing(through));
        }
        let mut replay = Box::new(heap.merge());
        // At its end already if there is nothing to read.
        let piece = replay.read(known, range);
        let piece = piece.unwrap_or_else(|| Ok(nothing(replay.horizon().max(range.after))));
        reader.stage = ReadStage::Merging(replay);
        piece
    }

    /// The named channels of one connection, merged; there are as many as it may name.
    fn merge<'a>(
        &self,
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Result<Piece, NotInMemory> {
        let count = named.clone().count();
        let each = SeqRange {
            events_max: match count {
                0 | 1 => range.events_max,
                _ => (2 * range.events_max / count).max(4),
            },
            ..*range
        };
        let mut merged = Slice::default();
        // Past the last event of a channel that has more, the merge would leave holes.
        let mut horizon = range.through;
        let mut on_disk = None;
        for entry in named {
            if entry.events().last_seq() <= range.after && count > 1 {
                continue;
            }
            let part = match entry.events().read(known, &each) {
                Ok(part) => part,
                // Others may have lost something.
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
            return Err(NotInMemory::OnDisk(through));
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
