//! The bounded history of one channel: append at the end, evict at the front, read by cursor.

use std::{collections::VecDeque, sync::Arc};

use smallvec::SmallVec;

use super::{
    HistoryLimits,
    event_outline::{EventOutline, Retained},
    unloaded::Unloaded,
};
use crate::model::{Event, Seq};

/// The retained events of a channel, in log order. With a log on disk the oldest may be only there.
/// At a start the same rules apply to outlines instead of events.
///
/// A read copies a bounded number of `Arc`s. A snapshot would keep evicted events in memory until
/// its slowest reader has finished, and so break the memory limits.
#[derive(Debug)]
pub struct History<E = Arc<Event>> {
    events: VecDeque<E>,
    /// Frame bytes of the events in memory.
    bytes: u64,
    evicted_through: Seq,
    /// The number of events that were ever appended.
    appended: u64,
    /// The older events, which are only on disk.
    unloaded: Option<Box<Unloaded>>,
}

/// What an eviction removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evicted {
    /// The events that were in memory.
    pub seqs: SmallVec<[Seq; 2]>,
    /// Their bytes, bookkeeping included.
    pub bytes: u64,
    /// The last evicted event that was only on disk; zero if there was none.
    pub unloaded_through: Seq,
}

impl Evicted {
    /// Whether nothing was evicted.
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty() && self.unloaded_through == Seq::ZERO
    }
}

/// A part of a history.
#[derive(Debug, Default)]
pub struct Slice {
    /// Events after the cursor.
    pub events: Vec<Arc<Event>>,
    /// Whether more events follow that the limits of the read cut off.
    pub more: bool,
}

/// Events after the cursor have been evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FellOff;

/// Events after the cursor cannot be read from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotInMemory {
    /// Some have been evicted.
    FellOff,
    /// Some are only on disk, up to this one.
    OnDisk(Seq),
}

impl From<FellOff> for NotInMemory {
    fn from(_: FellOff) -> Self {
        Self::FellOff
    }
}

impl<E> Default for History<E> {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            evicted_through: Seq::ZERO,
            appended: 0,
            unloaded: None,
        }
    }
}

impl<E: Retained> History<E> {
    /// An empty history of a channel whose events up to `evicted_through` have been evicted.
    pub fn starting_after(evicted_through: Seq) -> Self {
        Self { evicted_through, ..Self::default() }
    }

    /// Appends `event`, whose seq is higher than any before it, and evicts what the count and
    /// byte bounds no longer allow, in memory at most [`EVICTED_PER_APPEND`] events: if the bounds
    /// are lowered, the rest goes with the next events and with [`evict_due`](Self::evict_due). The
    /// newest event always stays, whatever its size.
    #[inline]
    pub fn append(&mut self, event: E, limits: &HistoryLimits) -> Evicted {
        debug_assert!(self.last().is_none_or(|last| last < event.seq()));
        self.bytes += event.frame_bytes();
        self.appended += 1;
        self.events.push_back(event);
        let mut evicted = Evicted::default();
        if self.unloaded.is_some() {
            self.evict_unloaded(&mut evicted, |unloaded, events, bytes| {
                unloaded.exceeds(events, bytes, limits)
            });
        }
        if self.unloaded.is_none() {
            for _ in 0..EVICTED_PER_APPEND {
                if !self.exceeds(limits) {
                    break;
                }
                self.evict_oldest(&mut evicted);
            }
        }
        evicted
    }

    /// Evicts what was accepted before `oldest_ms`, and what the count and byte bounds do not
    /// allow, at most `events_max` events in memory at a time.
    pub fn evict_due(
        &mut self,
        oldest_ms: u64,
        limits: &HistoryLimits,
        events_max: usize,
    ) -> Evicted {
        let mut evicted = Evicted::default();
        self.evict_unloaded(&mut evicted, |unloaded, events, bytes| {
            unloaded.oldest_ms() < oldest_ms || unloaded.exceeds(events, bytes, limits)
        });
        while self.unloaded.is_none()
            && evicted.seqs.len() < events_max
            && (self.exceeds(limits)
                || self.events.front().is_some_and(|event| event.accepted_ms() < oldest_ms))
        {
            self.evict_oldest(&mut evicted);
        }
        evicted
    }

    /// Evicts everything up to and including `through`, which is in memory or after all events
    /// there.
    pub fn evict_through(&mut self, through: Seq) -> Evicted {
        self.evict_some_through(through, usize::MAX)
    }

    /// As [`evict_through`](Self::evict_through), for at most `events_max` of the oldest events in
    /// memory.
    pub fn evict_some_through(&mut self, through: Seq, events_max: usize) -> Evicted {
        let mut evicted = Evicted::default();
        self.evict_unloaded(&mut evicted, |unloaded, _, _| unloaded.first() <= through);
        while evicted.seqs.len() < events_max
            && self.events.front().is_some_and(|event| event.seq() <= through)
        {
            self.evict_oldest(&mut evicted);
        }
        evicted
    }

    /// Whether there are more events in memory than the bounds allow.
    #[inline]
    fn exceeds(&self, limits: &HistoryLimits) -> bool {
        self.events.len() > 1
            && (self.events.len() > limits.events_max as usize || self.bytes > limits.bytes_max)
    }

    /// Evicts everything up to and including `through`: up to there events were lost, also some
    /// that the history does not have.
    pub fn lose_through(&mut self, through: Seq) -> Evicted {
        let evicted = self.evict_through(through);
        self.evicted_through = self.evicted_through.max(through);
        evicted
    }

    /// Evicts an event of `bytes` frame bytes that the log on disk removes, and all events before
    /// it.
    pub fn evict_removed(&mut self, seq: Seq, bytes: u64) -> Evicted {
        let Some(unloaded) = &mut self.unloaded else { return self.evict_through(seq) };
        if seq < unloaded.first() {
            return Evicted::default();
        }
        unloaded.remove_oldest(seq, bytes);
        self.evicted_through = self.evicted_through.max(seq);
        if unloaded.is_empty() {
            self.unloaded = None;
        }
        Evicted { unloaded_through: self.evicted_through, ..Evicted::default() }
    }

    /// Drops the bodies of events up to and including `through` from memory: a log on disk has
    /// them. Gives the bytes, bookkeeping included.
    pub fn unload_through(&mut self, through: Seq) -> u64 {
        let mut bytes = 0;
        while self.events.front().is_some_and(|event| event.seq() <= through) {
            let Some(event) = self.pop_oldest() else { break };
            bytes += cost(&event);
            match &mut self.unloaded {
                Some(unloaded) => unloaded.push(&event),
                None => self.unloaded = Some(Box::new(Unloaded::new(&event))),
            }
        }
        bytes
    }

    /// The events that are only on disk: the first of them or a seq before it, and the last.
    pub fn unloaded(&self) -> Option<(Seq, Seq)> {
        self.unloaded.as_ref().map(|unloaded| (unloaded.first(), unloaded.through()))
    }

    /// The oldest retained event after `after`; for events on disk, a seq that may be before it.
    pub fn next_after(&self, after: Seq) -> Option<Seq> {
        if let Some(unloaded) = &self.unloaded
            && unloaded.through() > after
        {
            return Some(unloaded.first().max(after.next()));
        }
        let start = self.events.partition_point(|event| event.seq() <= after);
        self.events.get(start).map(Retained::seq)
    }

    /// The highest seq that has been evicted, or [`Seq::ZERO`].
    pub fn evicted_through(&self) -> Seq {
        self.evicted_through
    }

    /// The events in memory: the newest ones.
    pub fn in_memory(&self) -> impl Iterator<Item = &E> {
        self.events.iter()
    }

    /// The oldest event in memory.
    pub fn first_in_memory(&self) -> Option<Seq> {
        self.events.front().map(Retained::seq)
    }

    /// The oldest retained event; for events on disk, a seq that may be before it.
    pub fn first(&self) -> Option<Seq> {
        match &self.unloaded {
            Some(unloaded) => Some(unloaded.first()),
            None => self.first_in_memory(),
        }
    }

    /// The oldest retained event that a log on disk has, or a seq before it. The log does not have
    /// the events in memory up to `unwritten`.
    pub fn first_written(&self, unwritten: Seq) -> Option<Seq> {
        match self.unloaded {
            Some(_) => self.first(),
            None => self.next_after(unwritten),
        }
    }

    /// The newest retained event.
    pub fn last(&self) -> Option<Seq> {
        match self.events.back() {
            Some(event) => Some(event.seq()),
            None => self.unloaded.as_ref().map(|unloaded| unloaded.through()),
        }
    }

    /// The time at which the next event to expire was accepted, in milliseconds since 1970.
    pub fn oldest_ms(&self) -> Option<u64> {
        match &self.unloaded {
            Some(unloaded) => Some(unloaded.oldest_ms()),
            None => self.events.front().map(Retained::accepted_ms),
        }
    }

    /// Retained events.
    pub fn len(&self) -> u64 {
        self.events.len() as u64 + self.unloaded.as_ref().map_or(0, |unloaded| unloaded.events())
    }

    /// Whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.unloaded.is_none()
    }

    /// Events that were ever appended, those that are evicted included.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Retained frame bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.unloaded.as_ref().map_or(0, |unloaded| unloaded.bytes())
    }

    /// Evicts chunks of the events that are only on disk, as long as `is_due` is true of the
    /// retained events and bytes.
    fn evict_unloaded(
        &mut self,
        evicted: &mut Evicted,
        is_due: impl Fn(&Unloaded, u64, u64) -> bool,
    ) {
        let (events, bytes) = (self.events.len() as u64, self.bytes);
        while let Some(unloaded) = &mut self.unloaded
            && is_due(unloaded, events, bytes)
        {
            if let Some(last) = unloaded.pop() {
                self.evicted_through = last;
                evicted.unloaded_through = last;
            }
            if unloaded.is_empty() {
                self.unloaded = None;
            }
        }
    }

    #[inline]
    fn evict_oldest(&mut self, evicted: &mut Evicted) {
        if let Some(event) = self.pop_oldest() {
            self.evicted_through = event.seq();
            evicted.seqs.push(event.seq());
            evicted.bytes += cost(&event);
        }
    }

    #[inline]
    fn pop_oldest(&mut self) -> Option<E> {
        let event = self.events.pop_front();
        if let Some(event) = &event {
            self.bytes -= event.frame_bytes();
        }
        // A channel that was busy once does not keep its capacity for ever.
        if self.events.capacity() > 64 && self.events.len() * 4 < self.events.capacity() {
            self.events.shrink_to(self.events.len() * 2);
        }
        event
    }
}

impl History {
    /// The events after `after` up to `through`, no more than `events_max`; at least one if there
    /// is one, and no more after `bytes_max` bytes are reached.
    pub fn read(
        &self,
        after: Seq,
        through: Seq,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Slice, NotInMemory> {
        if self.evicted_through > after {
            return Err(NotInMemory::FellOff);
        }
        if let Some(unloaded) = &self.unloaded
            && unloaded.through() > after
        {
            return Err(NotInMemory::OnDisk(unloaded.through()));
        }
        let start = self.events.partition_point(|event| event.seq <= after);
        let mut slice = Slice::default();
        let mut bytes = 0;
        for event in self.events.range(start..) {
            if event.seq > through {
                break;
            }
            if slice.events.len() >= events_max || bytes >= bytes_max {
                slice.more = true;
                break;
            }
            bytes += event.bytes().len();
            slice.events.push(Arc::clone(event));
        }
        Ok(slice)
    }

    /// The events in memory up to `through`, the newest first.
    pub fn latest_through(&self, through: Seq) -> impl Iterator<Item = &Arc<Event>> {
        let end = self.events.partition_point(|event| event.seq <= through);
        self.events.range(..end).rev()
    }

    /// Adds an event whose outline was counted here: nothing is evicted for it.
    pub fn restore(&mut self, event: Arc<Event>) {
        debug_assert!(self.last().is_none_or(|last| last < event.seq));
        self.bytes += event.frame_bytes();
        self.events.push_back(event);
    }

    /// What a history accounts for `event` hub-wide, in bytes.
    #[inline]
    pub fn cost(event: &Event) -> u64 {
        event.bytes().len() as u64 + Event::OVERHEAD_BYTES
    }
}

impl History<EventOutline> {
    /// The history of the events themselves, without those in memory: they are to be
    /// [restored](History::restore) in their order.
    pub fn without_bodies(self) -> History {
        let Self { events, evicted_through, appended, unloaded, .. } = self;
        let events = VecDeque::with_capacity(events.len());
        History { events, bytes: 0, evicted_through, appended, unloaded }
    }
}

/// What a history accounts for an event hub-wide, in bytes.
#[inline]
fn cost(event: &impl Retained) -> u64 {
    event.frame_bytes() + Event::OVERHEAD_BYTES
}

/// Events that one append evicts from memory at most: publishers of all channels wait for it. More
/// than one, so that a history within lower bounds than before comes down to these.
const EVICTED_PER_APPEND: usize = if cfg!(test) { 16 } else { 256 };

#[cfg(test)]
mod tests;
