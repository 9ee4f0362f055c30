//! Finds the latest events of each channel of a subscription, up to a number for each, in pieces.
//!
//! Each channel is searched backwards from the head of the log until enough events of the wanted
//! types are found: first in memory, then in the log on disk
//! ([`last_on_disk`](super::last_on_disk)). Of the events that are found only the seqs are held, so
//! that a slow reader keeps no evicted event in memory: an event that is evicted after the search
//! is a loss like any other.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    mem,
    sync::Arc,
};

use rustc_hash::FxHashSet;

use super::{
    channel::{ChannelEntry, ChannelId},
    directory::Directory,
    found::FoundEvents,
    incomplete::IncompleteChannels,
    replay::{Next, Replay},
    search_memory::{SearchBytes, SearchMemory},
    walk::Walk,
};
use crate::{
    core::Subscription,
    model::{ChannelPattern, EventKind, EventType, LastEvents, Seq},
};

/// What a search looks for. Two searches with equal keys find the same events, except for those
/// published between them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SearchKey {
    named: Box<[ChannelId]>,
    patterns: Box<[ChannelPattern]>,
    pub(super) types: Box<[EventType]>,
    each: LastEvents,
}

/// The result of a search that was taken out of its reader.
#[derive(Debug)]
pub enum SearchStep {
    /// The search has its memory, and begins.
    Begins(LastSearch),
    /// The search is over, and has found these events.
    Found(FoundEvents),
}

/// A search under way.
#[derive(Debug)]
pub struct LastSearch {
    pub(super) key: Arc<SearchKey>,
    /// The head of the log when the search began. It ignores later events.
    head: Seq,
    /// The newest events that were found, at most [`LAST_EVENTS_MAX`].
    pub(super) newest: BinaryHeap<Reverse<Next>>,
    /// Channels of which memory does not have enough events: they are searched on disk. If there
    /// are too many, some are dropped. Each kept channel has an event that is newer than all of a
    /// dropped channel's, so a dropped one adds nothing, unless types are filtered.
    pub(super) incomplete: IncompleteChannels,
    /// Bytes of the log on disk that it has read.
    pub(super) bytes: u64,
    /// Whether it has read as many bytes as it may, although there may be more events to find.
    is_cut: bool,
    memory: SearchPart,
    /// Channels that the walk has come to, and that are still to be searched in memory.
    channels: VecDeque<LookBack>,
    stage: Stage,
}

/// The part of a search in the memory that searches share.
#[derive(Debug)]
enum SearchPart {
    /// The search has not asked for memory; where memory is not limited, it never does.
    None,
    /// The search waits for this many bytes.
    Awaited(u32),
    Taken(SearchBytes),
}

#[derive(Debug)]
enum Stage {
    Named,
    Names(Walk),
    Over,
}

/// How far one channel has been searched in memory.
#[derive(Debug)]
struct LookBack {
    entry: Arc<ChannelEntry>,
    /// The channel is still to be searched up to this seq, backwards.
    through: Seq,
    /// How many more events are wanted.
    left: usize,
}

impl LastSearch {
    pub(super) fn new<'a>(
        each: LastEvents,
        types: &[EventType],
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>>,
        head: Seq,
    ) -> Self {
        let named = named.map(|entry| entry.id()).collect();
        let key = SearchKey { named, patterns: patterns.into(), types: types.into(), each };
        Self {
            key: Arc::new(key),
            head,
            newest: BinaryHeap::new(),
            incomplete: IncompleteChannels::new(LAST_EVENTS_MAX),
            bytes: 0,
            is_cut: false,
            memory: SearchPart::None,
            channels: VecDeque::new(),
            stage: Stage::Named,
        }
    }

    /// What the search looks for.
    pub(crate) fn key(&self) -> &Arc<SearchKey> {
        &self.key
    }

    /// The head of the log when the search began.
    pub(crate) fn head(&self) -> Seq {
        self.head
    }

    /// Takes a part of the memory that searches share, unless the search has it; false if it has to
    /// wait. `channels` is the number of channels in the directory.
    pub(super) fn take_memory(&mut self, memory: &SearchMemory, channels: usize) -> bool {
        if let SearchPart::Taken(_) = self.memory {
            return true;
        }
        let bytes = self.bytes_max(channels);
        let part = memory.try_take(bytes);
        let is_taken = part.is_some();
        self.memory = part.map_or(SearchPart::Awaited(bytes), SearchPart::Taken);
        is_taken
    }

    /// The bytes that the search waits for.
    pub(crate) fn waits_for(&self) -> Option<u32> {
        match self.memory {
            SearchPart::Awaited(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Gives the search the memory that it waits for.
    pub(crate) fn give_memory(&mut self, bytes: SearchBytes) {
        self.memory = SearchPart::Taken(bytes);
    }

    /// Bytes that the search may need with this many channels in the directory.
    fn bytes_max(&self, channels: usize) -> u32 {
        let channels = match self.key.patterns.is_empty() {
            true => self.key.named.len(),
            false => channels + self.key.named.len(),
        };
        let incomplete = IncompleteChannels::bytes(channels.min(2 * LAST_EVENTS_MAX));
        (Self::found_bytes(channels * self.key.each.get()) + incomplete) as u32
    }

    fn found_bytes(events: usize) -> usize {
        // Twice, for the heap as it grows, and when the events are put in order.
        SEARCH_BYTES + 2 * events.min(LAST_EVENTS_MAX) * size_of::<Next>()
    }

    /// Frees the memory that the search needs no longer, once all events in memory were examined.
    pub(super) fn shrink(&mut self) {
        let incomplete = self.incomplete.channels.len();
        let events = incomplete * self.key.each.get() + self.newest.len();
        let bytes = Self::found_bytes(events) + IncompleteChannels::bytes(incomplete);
        // The collections may have grown beyond their content.
        self.newest.shrink_to_fit();
        self.incomplete.channels.shrink_to_fit();
        self.channels = VecDeque::new();
        if let SearchPart::Taken(memory) = &mut self.memory {
            memory.shrink(bytes);
        }
    }

    /// Looks at some more events and channels; true when it has looked at all that are in memory.
    /// The caller gives the same subscription at each look.
    pub(super) fn look<'a>(
        &mut self,
        directory: &Directory,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
    ) -> bool {
        if self.channels.is_empty() {
            match &mut self.stage {
                Stage::Named => {
                    named.for_each(|entry| self.add(entry));
                    self.stage = match patterns.is_empty() {
                        true => Stage::Over,
                        false => Stage::Names(Walk::new(patterns)),
                    };
                }
                Stage::Names(walk) => {
                    let entries = directory.next_names(walk, Walk::names_per_look(patterns));
                    if walk.is_over() {
                        self.stage = Stage::Over;
                    }
                    for entry in &entries {
                        let name = entry.name();
                        if patterns.iter().any(|pattern| pattern.matches(name))
                            && !named.clone().any(|named| named.id() == entry.id())
                        {
                            self.add(entry);
                        }
                    }
                }
                Stage::Over => {}
            }
        }
        let mut events_left = LOOK_EVENTS_MAX;
        while events_left > 0
            && let Some(mut channel) = self.channels.pop_front()
        {
            if !self.look_back(&mut channel, &mut events_left) {
                self.channels.push_front(channel);
            }
        }
        self.is_over_in_memory()
    }

    /// Whether all events in memory were examined.
    pub(super) fn is_over_in_memory(&self) -> bool {
        self.channels.is_empty() && matches!(self.stage, Stage::Over)
    }

    /// Whether older events are to be searched on disk.
    pub(crate) fn needs_disk(&self) -> bool {
        !self.incomplete.is_empty() && self.newest.len() < LAST_EVENTS_MAX
    }

    /// Ends the search because it has read its limit of bytes.
    pub(super) fn cut(&mut self) {
        self.is_cut = self.needs_disk() && self.incomplete.first().is_some();
        self.incomplete.clear();
    }

    /// Whether the search ended at its limit of bytes, before it had found all events.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What it has found, for a hub with a log on disk.
    pub(crate) fn into_found(mut self) -> FoundEvents {
        let (through, cut) = (self.head, self.is_cut.then_some(self.key.each));
        let mut memory = match mem::replace(&mut self.memory, SearchPart::None) {
            SearchPart::Taken(memory) => Some(memory),
            _ => None,
        };
        let events = self.into_events();
        if let Some(memory) = &mut memory {
            memory.shrink(FoundEvents::bytes(events.len()));
        }
        FoundEvents::new(events.into(), through, cut, memory)
    }

    /// What it has found, for a hub in memory: a merge of the channels, each from its first found
    /// event on.
    pub(super) fn into_replay(self) -> Replay {
        let head = self.head;
        let mut seen = FxHashSet::default();
        let mut first = self.into_events();
        first.retain(|next| seen.insert(next.channel_id()));
        Replay::new(first.into(), Seq::ZERO, head)
    }

    fn into_events(self) -> Vec<Next> {
        let mut events: Vec<Next> = self.newest.into_iter().map(|Reverse(next)| next).collect();
        events.sort_unstable();
        events
    }

    fn add(&mut self, entry: &Arc<ChannelEntry>) {
        if !entry.events().never_published() {
            let (entry, through, left) = (Arc::clone(entry), self.head, self.key.each.get());
            self.channels.push_back(LookBack { entry, through, left });
        }
    }

    /// Searches one channel backwards; false if the look has used up its events before it was done.
    fn look_back(&mut self, channel: &mut LookBack, events_left: &mut usize) -> bool {
        let LookBack { entry, through, left } = channel;
        entry.events().with_history(|history| {
            for event in history.latest_through(*through) {
                let is_older_than_all = self.newest.len() == LAST_EVENTS_MAX
                    && self
                        .newest
                        .peek()
                        .is_some_and(|Reverse(oldest)| !oldest.is_before(event.seq));
                if *left == 0 || is_older_than_all {
                    break;
                }
                // Without a type filter one look searches a channel to its end.
                if *events_left == 0 && !self.key.types.is_empty() {
                    return false;
                }
                *events_left = events_left.saturating_sub(1);
                *through = Seq(event.seq.0 - 1);
                if Subscription::wants(&self.key.types, event) {
                    // The closing event is taken too, but not counted.
                    *left -= usize::from(event.kind == EventKind::Published);
                    self.newest.push(Reverse(Next::new(event.seq, entry)));
                    if self.newest.len() > LAST_EVENTS_MAX {
                        self.newest.pop();
                    }
                }
            }
            if *left > 0
                && self.newest.len() < LAST_EVENTS_MAX
                && let Some((_, last)) = history.unloaded()
            {
                self.incomplete.add(entry, *through, last, *left);
            }
            true
        })
    }
}

/// Events that a subscription may start with, of all its channels together; the newest are taken.
/// 16 bytes each.
pub(crate) const LAST_EVENTS_MAX: usize = if cfg!(test) { 12 } else { 10_000 };
/// Bytes of a search besides the events found.
const SEARCH_BYTES: usize = 512;
/// Events that one look visits, each a comparison with the types.
const LOOK_EVENTS_MAX: usize = if cfg!(test) { 5 } else { 2_048 };
