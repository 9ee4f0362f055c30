//! Finds where a subscription starts, and what it missed.
//!
//! One step usually finds both. With patterns the search takes several steps if one look at the
//! journal does not reach the start, or if the start is older than the journal. The subscription
//! starts when the search ends.

use std::{mem, sync::Arc};

use super::{
    channel::ChannelEntry,
    event_store::EventStore,
    found::FoundEvents,
    journal::{ChannelFilter, filter_of},
    last_search::LastSearch,
    losses::{KnownLosses, Lost},
    piece::SeqRange,
    reader::{HistoryReader, ReadStage},
    replay::Replay,
    replay_heap::ReplayHeap,
    start_state::{FirstReads, Missed, Search, StartSearch, Target},
    truncation::TruncationWalk,
};
use crate::model::{ChannelName, ChannelPattern, EventType, Gap, GapReason, Seq, Start};

/// Where a subscription starts.
#[derive(Debug)]
pub struct Resume {
    /// The client has all events up to this seq; valid only if the reader is not searching.
    pub cursor: Seq,
    /// The head of the log, read before the search.
    pub head: Seq,
    /// The gap to be reported, if events were lost.
    pub gap: Option<Gap>,
    /// Whether a channel that its patterns match has lost events before its oldest, if the request
    /// asks for that.
    pub truncated: bool,
    /// Reads on from the cursor. While it is [searching](HistoryReader::is_searching_start), it is
    /// not known where the subscription starts.
    pub reader: HistoryReader,
}

/// The result of a search for the start.
#[derive(Debug)]
pub struct StartFound {
    /// The client has all events up to this seq.
    pub cursor: Seq,
    /// The gap to be reported, if events were lost.
    pub gap: Option<Gap>,
    /// As in [`Resume`].
    pub truncated: bool,
}

/// What a client asks for at the start of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct StartRequest<'a> {
    /// Where it is to start.
    pub start: &'a Start,
    /// The types it wants, of which the last events are counted; none means all.
    pub types: &'a [EventType],
    /// Whether to check if a channel that its patterns match has lost events before its oldest;
    /// only for starts with history, not at a position.
    pub truncated: bool,
}

impl<'a> StartRequest<'a> {
    /// A start alone.
    pub fn at(start: &'a Start) -> Self {
        Self { start, types: &[], truncated: false }
    }
}

/// The progress of a search after a step.
enum Progress {
    /// The start is known: the client has all events up to the cursor, and the reader continues
    /// after it.
    Found { cursor: Seq, reader: HistoryReader },
    /// There is more to look at.
    More(Search),
    /// An event after the client's position has been lost.
    Lost(Lost),
}

/// What a reader reads after a search of the channels.
enum ReadNext {
    /// The channels that the search has found, merged.
    Channels,
    /// The log: the journal, and what is on disk.
    Log,
}

impl EventStore {
    /// Where a subscription starts. `named` are the channels it names. The caller reads `head`
    /// after it has registered, so that nothing is lost between: events up to the head are found by
    /// reading, later ones are sent. Losses up to now count as known to a reader that starts at the
    /// oldest event or after a gap.
    pub fn resume<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        request: StartRequest<'_>,
        head: Seq,
    ) -> Resume {
        let now = |cursor| {
            let reader = HistoryReader::default();
            Resume { cursor, head, gap: None, truncated: false, reader }
        };
        let start = request.start;
        let from_oldest = |reason, requested| {
            let missed = Some(Missed { reason, requested, channel: None });
            Target::Oldest { after: Seq::ZERO, missed }
        };
        let target = match start {
            Start::Now => return now(head),
            Start::Earliest => Target::Oldest { after: Seq::ZERO, missed: None },
            Start::Last(each) => {
                let search = LastSearch::new(*each, request.types, patterns, named.clone(), head);
                let target = Target::Oldest { after: Seq::ZERO, missed: None };
                let asks_truncated = request.truncated;
                let search = Search::Last(search);
                let state = StartSearch { target, asks_truncated, head, search };
                return self.begin_search(patterns, named, state);
            }
            Start::Unknown(token) => from_oldest(GapReason::UnknownPosition, token.clone()),
            Start::At(at) if at.epoch != self.epoch() => {
                from_oldest(GapReason::Epoch, at.to_string())
            }
            Start::At(at) if at.seq > head => {
                from_oldest(GapReason::UnknownPosition, at.to_string())
            }
            // Whatever its channels have lost lies before the head.
            Start::At(at) if at.seq == head => return now(head),
            Start::At(at) => Target::Continue(*at),
        };
        if patterns.is_empty() {
            return self.start_by_names(named, target, head);
        }
        let asks_truncated = request.truncated && *start == Start::Earliest;
        self.begin_search(patterns, named, StartSearch::new(target, head, asks_truncated))
    }

    /// Begins a search, and makes its first step, which is usually the only one.
    fn begin_search<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        state: StartSearch,
    ) -> Resume {
        let (after, head) = (state.target.after(), state.head);
        let mut reader = HistoryReader::searching(state);
        let found = self.search_start(patterns, named, &mut reader);
        let unknown = StartFound { cursor: after, gap: None, truncated: false };
        let StartFound { cursor, gap, truncated } = found.unwrap_or(unknown);
        Resume { cursor, head, gap, truncated, reader }
    }

    /// Makes one step of the search for the start of a subscription; `None` if more steps are
    /// needed. If [`take_search`](HistoryReader::take_search) then gives the search, it has to wait
    /// or to continue on disk. A step takes a tenth of a millisecond and holds no lock afterwards.
    /// Losses up to the last step, of events published before the first, count as known to the
    /// reader.
    pub fn search_start<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        reader: &mut HistoryReader,
    ) -> Option<StartFound> {
        let ReadStage::Searching(state) = mem::take(&mut reader.stage) else {
            debug_assert!(false, "it is known where it starts");
            return None;
        };
        let StartSearch { mut target, asks_truncated, head, search } = *state;
        let looked = match search {
            Search::Last(mut last) => {
                let is_over = self.take_memory(&mut last)
                    && last.look(self.registry().directory(), patterns, named);
                if is_over && !last.needs_disk() {
                    match self.is_on_disk() {
                        true => self.start_found(last.into_found(), &mut target),
                        false => {
                            let replay = last.into_replay();
                            self.start_in_channels(replay, ReadNext::Channels, &target, head)
                        }
                    }
                } else {
                    Progress::More(Search::Last(last))
                }
            }
            Search::Taken => Progress::More(Search::Taken),
            Search::Found(found) => self.start_found(found, &mut target),
            Search::Truncated { cursor, known, reads, mut walk } => {
                if let Some(truncated) = walk.look(self.registry().directory(), patterns) {
                    let stage = match reads {
                        FirstReads::Direct => ReadStage::Direct,
                        FirstReads::Merge(replay) => ReadStage::Merging(replay),
                        FirstReads::Found(found) => ReadStage::Found(found),
                    };
                    *reader = HistoryReader { stage, ..HistoryReader::knowing(known) };
                    return Some(StartFound { truncated, ..self.start_at(cursor, target) });
                }
                Progress::More(Search::Truncated { cursor, known, reads, walk })
            }
            Search::Journal(looked) => {
                self.search_journal(&filter_of(patterns, named), &target, looked, head)
            }
            Search::Channels(mut heap) => {
                match heap.collect_some(self.registry().directory(), patterns, named) {
                    Ok(true) => {
                        let next = match self.is_on_disk() {
                            true => ReadNext::Log,
                            false => ReadNext::Channels,
                        };
                        self.start_in_channels(heap.merge(), next, &target, head)
                    }
                    Ok(false) => Progress::More(Search::Channels(heap)),
                    Err(lost) => Progress::Lost(lost),
                }
            }
        };
        let state = match (looked, target) {
            (Progress::Found { cursor, reader: HistoryReader { known, stage, .. } }, target)
                if asks_truncated && !patterns.is_empty() && self.has_lost_any() =>
            {
                let walk = TruncationWalk::new(patterns);
                let reads = match stage {
                    ReadStage::Merging(replay) => FirstReads::Merge(replay),
                    ReadStage::Found(found) => FirstReads::Found(found),
                    _ => FirstReads::Direct,
                };
                let search = Search::Truncated { cursor, known, reads, walk };
                StartSearch { target, asks_truncated, head, search }
            }
            (Progress::Found { cursor, reader: found }, target) => {
                *reader = found;
                return Some(self.start_at(cursor, target));
            }
            (Progress::More(search), target) => {
                StartSearch { target, asks_truncated, head, search }
            }
            // The new search goes up to the present head: events published and evicted since are
            // missed too.
            (Progress::Lost(Lost(channel)), Target::Continue(at)) => {
                StartSearch::new(Target::behind_loss(at, channel), self.head(), false)
            }
            (Progress::Lost(_), Target::Oldest { .. }) => {
                unreachable!("all losses are known by now, so none can be new")
            }
        };
        reader.stage = ReadStage::Searching(Box::new(state));
        None
    }

    /// Takes a search's part of the memory that searches share; false if the search has to wait for
    /// it.
    fn take_memory(&self, search: &mut LastSearch) -> bool {
        let channels = self.registry().directory().len();
        self.search_memory().is_none_or(|memory| search.take_memory(memory, channels))
    }

    /// Searches a part of the journal, after `looked`.
    fn search_journal(
        &self,
        wants: &ChannelFilter<impl Fn(&ChannelName) -> bool>,
        target: &Target,
        looked: Seq,
        head: Seq,
    ) -> Progress {
        let range = SeqRange { after: looked, through: head, events_max: 1, bytes_max: 1 };
        let journal = self.journal();
        let in_channels =
            |known| Progress::More(Search::Channels(ReplayHeap::new(known, target.after(), head)));
        match target {
            Target::Continue(at) => match journal.find_losses(wants, &range) {
                Some(Ok(through)) if through >= head => {
                    Progress::Found { cursor: at.seq, reader: HistoryReader::default() }
                }
                Some(Ok(through)) => Progress::More(Search::Journal(through)),
                Some(Err(lost)) => Progress::Lost(lost),
                None => in_channels(KnownLosses::default()),
            },
            Target::Oldest { after, .. } => {
                // The losses are noted under the same lock as the read, so the oldest event that is
                // found is not among them.
                let known = journal.known_losses(head);
                match journal.read(wants, KnownLosses::ALL, &range) {
                    Some(Ok(piece)) if piece.more && piece.events.is_empty() => {
                        Progress::More(Search::Journal(piece.through))
                    }
                    Some(Ok(piece)) => {
                        let oldest = piece.events.first().map(|event| event.seq);
                        let reader = HistoryReader::knowing(known);
                        Progress::Found {
                            cursor: cursor_before_oldest(oldest, *after, head),
                            reader,
                        }
                    }
                    Some(Err(lost)) => Progress::Lost(lost),
                    None => in_channels(KnownLosses::ALL),
                }
            }
        }
    }

    /// Whether any channel has ever lost an event, as far as is known.
    fn has_lost_any(&self) -> bool {
        self.journal().has_evicted() || !self.registry().directory().evicted_channels().is_empty()
    }

    /// Ends a search of the channels: the subscription continues from its position, or starts
    /// before the oldest event that was found.
    fn start_in_channels(
        &self,
        mut replay: Replay,
        next: ReadNext,
        target: &Target,
        head: Seq,
    ) -> Progress {
        let (cursor, known) = match target {
            Target::Continue(at) => (at.seq, KnownLosses::default()),
            Target::Oldest { after, .. } => {
                let known = self.journal().known_losses(head);
                // Checked after the losses are noted, so that the oldest event is not among them.
                // If all channels of the merge have lost their events meanwhile, other channels may
                // have events after its horizon.
                let oldest = replay.oldest();
                let cursor = cursor_before_oldest(oldest, *after, replay.horizon());
                replay.start_after(cursor);
                (cursor, known)
            }
        };
        let stage = match next {
            ReadNext::Channels => ReadStage::Merging(Box::new(replay)),
            ReadNext::Log => ReadStage::Direct,
        };
        let reader = HistoryReader { stage, ..HistoryReader::knowing(known) };
        Progress::Found { cursor, reader }
    }

    /// Ends a search for last events: the subscription starts with those that were found.
    fn start_found(&self, found: FoundEvents, target: &mut Target) -> Progress {
        if let Some(each) = found.cut() {
            *target = Target::behind_cut(target.after(), each);
        }
        // Noted before the losses are looked at, so that the oldest event is not among them.
        let known = self.journal().known_losses(found.through());
        let cursor = found.cursor_after(target.after());
        let stage = ReadStage::Found(found);
        Progress::Found { cursor, reader: HistoryReader { stage, ..HistoryReader::knowing(known) } }
    }

    /// Where a subscription without patterns starts: its channels are few, and known.
    fn start_by_names<'a>(
        &self,
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        target: Target,
        head: Seq,
    ) -> Resume {
        let target = match target {
            Target::Continue(at) => {
                match named.clone().find(|entry| entry.events().has_lost(at.seq)) {
                    None => {
                        let (cursor, reader) = (at.seq, HistoryReader::default());
                        return Resume { cursor, head, gap: None, truncated: false, reader };
                    }
                    Some(entry) => Target::behind_loss(at, Some(entry.name().clone())),
                }
            }
            oldest => oldest,
        };
        // Later evictions are unknown to the reader.
        let known = self.journal().known_losses(head);
        let after = target.after();
        let next =
            |entry: &Arc<ChannelEntry>| entry.events().next_after(after, KnownLosses::ALL).ok()?;
        let oldest = named.filter_map(next).filter(|seq| *seq <= head).min();
        let found = self.start_at(cursor_before_oldest(oldest, after, head), target);
        let StartFound { cursor, gap, truncated } = found;
        let reader = HistoryReader::knowing(known);
        Resume { cursor, head, gap, truncated, reader }
    }

    /// The result of a search that has ended at `cursor`.
    fn start_at(&self, cursor: Seq, target: Target) -> StartFound {
        let missed = match target {
            Target::Continue(_) => None,
            Target::Oldest { missed, .. } => missed,
        };
        let gap = missed.map(|Missed { reason, requested, channel }| Gap {
            reason,
            requested,
            oldest: self.position(cursor),
            channel,
        });
        StartFound { cursor, gap, truncated: false }
    }
}

/// Just before the oldest event, or at the head without events.
fn cursor_before_oldest(oldest: Option<Seq>, after: Seq, head: Seq) -> Seq {
    oldest.map_or(head.max(after), |seq| Seq(seq.0 - 1))
}
