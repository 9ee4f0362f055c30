//! Counts the events of a log on disk at a start, before any event is built: which stay in memory,
//! which are on disk alone, and which retention has removed.
//!
//! An event is an outline here, which costs no allocation. A history of outlines follows the rules
//! of a history of events, and bodies leave memory as under [`EventStore::commit`]. So the outcome
//! is that of a hub which has shown all of these events, in their order, and evicted none by age.
//! [`Outlines::load`] then builds the events that stay in memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{channel::ChannelEntry, event_store::EventStore, losses::Losses};
use crate::{
    core::{EventOutline, Evicted, History, HistoryLimits, Retained},
    model::{ChannelName, Event, EventKind, Seq},
};

/// The histories of a hub that starts, with outlines in place of events.
#[derive(Debug)]
pub struct Outlines {
    pub(super) store: Arc<EventStore>,
    pub(super) channels: Vec<Option<Counted>>,
    /// Indexes in `channels` that are free, since their channels have been evicted.
    free: Vec<u32>,
    /// With a keyed hash: publishers choose the names.
    pub(super) indexes: HashMap<ChannelName, u32>,
    /// A cache of [`find`](Self::find): channels found lately, at a slot for the end of their name.
    recent: [u32; RECENT],
    /// The events in memory in log order, among others that retention has removed since.
    pub(super) order: VecDeque<(Seq, u32)>,
    pub(super) in_memory: usize,
    /// Bytes of the events in memory, bookkeeping included.
    bytes: u64,
    bytes_max: u64,
    pub(super) evictions: u64,
    pub(super) unloaded_through: Seq,
    /// The latest events without a hole between their seqs: they are after the first seq, and end
    /// with the second.
    pub(super) run: (Seq, Seq),
}

/// A channel of [`Outlines`].
#[derive(Debug, Clone, Copy)]
pub struct ChannelIndex(u32);

/// The counts of a channel.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) entry: Arc<ChannelEntry>,
    history: History<EventOutline>,
    limits: HistoryLimits,
    last: Seq,
    eviction: u64,
    lost_on_disk: Losses,
}

impl Outlines {
    /// Nothing yet, for a store without events that keeps up to `bytes_max` bytes of them in
    /// memory.
    pub fn new(store: Arc<EventStore>, bytes_max: u64) -> Self {
        Self {
            store,
            channels: Vec::new(),
            free: Vec::new(),
            indexes: HashMap::new(),
            recent: [0; RECENT],
            order: VecDeque::new(),
            in_memory: 0,
            bytes: 0,
            bytes_max,
            evictions: 0,
            unloaded_through: Seq::ZERO,
            run: (Seq::ZERO, Seq::ZERO),
        }
    }

    /// The channel of this name, if it has been added.
    pub fn find(&mut self, name: &str) -> Option<ChannelIndex> {
        let recent = &mut self.recent[recent_slot(name)];
        if let Some(Some(channel)) = self.channels.get(*recent as usize)
            && channel.entry.name().as_str() == name
        {
            return Some(ChannelIndex(*recent));
        }
        *recent = *self.indexes.get(name)?;
        Some(ChannelIndex(*recent))
    }

    /// Adds a channel of the directory, which has no events yet.
    pub fn add(&mut self, entry: Arc<ChannelEntry>) -> ChannelIndex {
        let index = self.free.pop().unwrap_or_else(|| {
            self.channels.push(None);
            self.channels.len() as u32 - 1
        });
        self.indexes.insert(entry.name().clone(), index);
        self.channels[index as usize] = Some(Counted::new(entry));
        ChannelIndex(index)
    }

    /// Whether a channel is closed.
    pub fn is_closed(&self, index: ChannelIndex) -> bool {
        self.channel(index.0).entry.events().is_closed()
    }

    /// Appends an event that comes after all others in the log.
    pub fn append(&mut self, index: ChannelIndex, event: EventOutline, kind: EventKind) {
        let seq = event.seq;
        if seq != self.run.1.next() {
            self.run.0 = Seq(seq.0 - 1);
        }
        self.run.1 = seq;
        self.bytes += event.frame_bytes() + Event::OVERHEAD_BYTES;
        self.in_memory += 1;
        self.order.push_back((seq, index.0));
        let channel = self.channel_mut(index.0);
        channel.last = seq;
        let evicted = channel.history.append(event, &channel.limits);
        self.note_eviction(index.0, &evicted);
        if kind == EventKind::Closed {
            self.store.close(&self.channel(index.0).entry, seq, event.accepted_ms);
        }
        self.make_room();
    }

    /// Adds a closed channel whose closing event is not in the log.
    pub fn restore_closed(&mut self, index: ChannelIndex, seq: Seq, closed_ms: u64) {
        let channel = self.channel_mut(index.0);
        channel.last = seq;
        let entry = Arc::clone(&channel.entry);
        self.store.close(&entry, seq, closed_ms);
    }

    /// Lets a closed channel take events again. Its events up to the closing one are evicted.
    pub fn reopen(&mut self, index: ChannelIndex) {
        let channel = self.channel_mut(index.0);
        let Some(closing) = channel.entry.events().closed_seq() else { return };
        let evicted = channel.history.evict_through(closing);
        self.note_eviction(index.0, &evicted);
        self.store.remove_tombstone(&self.channel(index.0).entry, closing);
    }

    /// Evicts open channels without events, a bounded number at once.
    pub fn evict_idle(&mut self) {
        let is_idle =
            |channel: &Counted| channel.history.is_empty() && !channel.entry.events().is_closed();
        let mut left = EVICTED_AT_ONCE;
        for (index, counted) in self.channels.iter_mut().enumerate() {
            if left > 0
                && let Some(channel) = counted.take_if(|channel| is_idle(channel))
            {
                left -= 1;
                self.free.push(index as u32);
                self.indexes.remove(channel.entry.name());
                self.store.registry().directory().evict(channel.hand_over());
            }
        }
    }

    /// The channel with this index.
    pub(super) fn channel(&self, index: u32) -> &Counted {
        self.channels[index as usize].as_ref().expect("an event in memory keeps its channel")
    }

    fn channel_mut(&mut self, index: u32) -> &mut Counted {
        self.channels[index as usize].as_mut().expect("an event in memory keeps its channel")
    }

    /// Whether an event of `order` is still in memory. If its index belongs to another channel by
    /// now, all events of that channel are later.
    pub(super) fn is_in_memory(&self, seq: Seq, index: u32) -> bool {
        let channel = self.channels[index as usize].as_ref();
        channel.and_then(|it| it.history.first_in_memory()).is_some_and(|first| first <= seq)
    }

    /// How many channels there is room for, and how many events are in its order.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [usize; 2] {
        [self.channels.len().max(self.indexes.len()), self.order.len()]
    }

    fn note_eviction(&mut self, index: u32, evicted: &Evicted) {
        if evicted.is_empty() {
            return;
        }
        self.evictions += 1;
        self.bytes -= evicted.bytes;
        self.in_memory -= evicted.seqs.len();
        let eviction = self.evictions;
        let channel = self.channel_mut(index);
        channel.eviction = eviction;
        if evicted.unloaded_through > Seq::ZERO {
            channel.lost_on_disk = Losses { through: evicted.unloaded_through, eviction };
        }
    }

    /// Unloads the oldest bodies while the ceiling of memory is exceeded.
    fn make_room(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((seq, index)) = self.order.pop_front()
        {
            if self.is_in_memory(seq, index) {
                self.bytes -= self.channel_mut(index).history.unload_through(seq);
                self.in_memory -= 1;
                self.unloaded_through = seq;
            }
        }
        // Below the ceiling nothing else drops events that retention has removed from the order.
        if self.order.len() > 2 * self.in_memory + ORDER_SLACK {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(seq, index)| self.is_in_memory(*seq, *index));
            self.order = order;
        }
    }
}

impl Counted {
    fn new(entry: Arc<ChannelEntry>) -> Self {
        let losses = entry.events().losses();
        Self {
            history: History::starting_after(losses.through),
            limits: entry.events().with_limits(|_, limits| limits.clone()),
            last: Seq::ZERO,
            eviction: losses.eviction,
            lost_on_disk: losses,
            entry,
        }
    }

    /// Gives the channel its history, without the events in memory.
    pub(super) fn hand_over(self) -> Arc<ChannelEntry> {
        let Self { entry, history, last, eviction, lost_on_disk, .. } = self;
        entry.events().restore(history.without_bodies(), last, eviction, lost_on_disk);
        entry
    }
}

/// The slot of a name in the cache of names found lately. It depends on the end of the name: names
/// that are used at the same time often differ there alone.
fn recent_slot(name: &str) -> usize {
    let end =
        name.bytes().rev().take(4).fold(name.len(), |hash, byte| hash * 31 + usize::from(byte));
    end % RECENT
}

/// Slots of the cache: its channels are found without a hash of the whole name.
const RECENT: usize = 256;
/// Events in the order beyond two for each that is in memory.
const ORDER_SLACK: usize = if cfg!(test) { 8 } else { 4_096 };
/// Channels that are evicted at once when the directory is full.
const EVICTED_AT_ONCE: usize = 4_096;
