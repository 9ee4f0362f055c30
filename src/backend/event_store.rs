//! The events that readers see: histories in this process, under one ceiling of memory.
//!
//! Only the last stage of a commit appends here, so readers may be shown every event that they find
//! here: it is as durable as the log promises (docs/adr/030-a-seam-for-storage.md). With a log on
//! disk the bodies beyond the ceiling stay readable there (docs/adr/034-history-beyond-memory.md).

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::{
    channel::ChannelEntry,
    journal::Journal,
    losses::{Losses, LostThrough},
    ranking::Ranking,
    registry::Registry,
    search_memory::SearchMemory,
};
use crate::{
    core::{Evicted, History},
    disk::RecoveredEvent,
    model::{ChannelName, ChannelPattern, Epoch, Event, EventKind, Position, Seq},
};

/// Every channel's history, the latest events in the log's order, and the head of the log.
#[derive(Debug)]
pub struct EventStore {
    /// Changes only when the shared log begins a new epoch.
    epoch: AtomicU64,
    /// Incremented when all events are dropped.
    resets: AtomicU64,
    total_bytes_max: u64,
    registry: Arc<Registry>,
    /// The newest seq that is shown, with all before it.
    head: AtomicU64,
    bytes: AtomicU64,
    /// With a log on disk, the first seq of it; zero without.
    first_on_disk: AtomicU64,
    /// Whether the log on disk may not have all events.
    has_transient: AtomicBool,
    /// As in [`unloaded_through`](Self::unloaded_through).
    unloaded_through: AtomicU64,
    /// The channel that had the oldest event when that was last looked for.
    oldest: Mutex<Weak<ChannelEntry>>,
    /// The order in which channels give up memory at the ceiling. Only the thread that shows a
    /// commit takes this lock.
    ranking: Mutex<Ranking>,
    /// Its lock is taken under that of a history, never the other way round.
    journal: RwLock<Journal>,
    /// With a log on disk, the memory that searches for last events share.
    search_memory: OnceLock<SearchMemory>,
}

impl EventStore {
    /// An empty store of the channels of `registry`, which keeps up to `total_bytes_max` bytes of
    /// events in memory.
    pub fn new(epoch: Epoch, total_bytes_max: u64, registry: Arc<Registry>) -> Self {
        Self {
            epoch: AtomicU64::new(epoch.to_u64()),
            resets: AtomicU64::new(0),
            total_bytes_max,
            registry,
            head: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            first_on_disk: AtomicU64::new(0),
            has_transient: AtomicBool::new(false),
            unloaded_through: AtomicU64::new(0),
            oldest: Mutex::default(),
            ranking: Mutex::default(),
            journal: RwLock::default(),
            search_memory: OnceLock::new(),
        }
    }

    /// Marks the store as backed by a log on disk from `first`.
    #[must_use]
    pub fn on_disk_from(self, first: Seq) -> Self {
        Self { first_on_disk: AtomicU64::new(first.0.max(1)), ..self }
    }

    /// The first seq of the log on disk, if there is one.
    pub(super) fn first_on_disk(&self) -> Option<Seq> {
        Some(Seq(self.first_on_disk.load(Ordering::Acquire))).filter(|first| *first > Seq::ZERO)
    }

    /// Whether the bodies of events may be on disk alone.
    pub fn is_on_disk(&self) -> bool {
        self.first_on_disk().is_some()
    }

    /// Limits the memory that searches for last events share; called at most once.
    pub fn limit_searches(&self, bytes_max: u64) {
        let _ = self.search_memory.set(SearchMemory::new(bytes_max));
    }

    /// The memory that searches for last events share, if it is limited.
    pub fn search_memory(&self) -> Option<&SearchMemory> {
        self.search_memory.get()
    }

    /// This incarnation of the log.
    pub fn epoch(&self) -> Epoch {
        Epoch::from_u64(self.epoch.load(Ordering::Acquire))
    }

    /// The channels whose events it holds.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The newest seq that readers may count on: everything up to it is in the histories.
    pub fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    /// `seq` as a position of this log.
    pub fn position(&self, seq: Seq) -> Position {
        Position { epoch: self.epoch(), seq }
    }

    /// Bytes in memory of all histories, bookkeeping included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Puts one event into its channel's history. Only the last stage of a commit calls this, in
    /// order of seq, and [`commit`](Self::commit) at its end.
    #[inline]
    pub fn append(&self, entry: &Arc<ChannelEntry>, event: &Arc<Event>) {
        self.bytes.fetch_add(History::cost(event), Ordering::Relaxed);
        entry.events().with_limits(|history, limits| {
            let evicted = history.append(Arc::clone(event), limits);
            let mut journal = self.journal.write();
            journal.append(Arc::clone(event));
            self.note_eviction(&mut journal, entry, &evicted);
        });
        entry.events().set_last_seq(event.seq);
        if event.kind == EventKind::Closed {
            self.close(entry, event.seq, event.accepted_ms);
        }
        self.rank(entry, event.seq);
    }

    /// Adds a channel to the ranking, unless it is there. `oldest` is its oldest event in memory.
    #[inline]
    fn rank(&self, entry: &Arc<ChannelEntry>, oldest: Seq) {
        if entry.events().rank() {
            self.ranking.lock().add(oldest, entry, self.registry.directory().len());
        }
    }

    /// Shows the batch that ends with `head` to readers, then makes room under the ceiling.
    pub fn commit(&self, head: Seq) {
        self.head.store(head.0, Ordering::Release);
        if self.bytes() > self.total_bytes_max {
            self.make_room();
        }
    }

    /// Continues from what [`Outlines`](super::outlines::Outlines) has counted at the start. The
    /// journal gets every event after `journal_after`.
    pub(super) fn begin_with(&self, journal_after: Seq, evictions: u64, unloaded_through: Seq) {
        self.journal.write().begin_with(journal_after, evictions);
        self.unloaded_through.store(unloaded_through.0, Ordering::Release);
    }

    /// Adds an event that was counted and stays in memory. If its time is after `now_ms`, `now_ms`
    /// counts.
    pub(super) fn restore_event(
        &self,
        entry: &Arc<ChannelEntry>,
        event: RecoveredEvent,
        is_in_journal: bool,
        now_ms: u64,
    ) {
        let event = self.restore(event);
        let event = Arc::new(Event { accepted_ms: event.accepted_ms.min(now_ms), ..event });
        self.bytes.fetch_add(History::cost(&event), Ordering::Relaxed);
        entry.events().with_history(|history| history.restore(Arc::clone(&event)));
        self.rank(entry, event.seq);
        if is_in_journal {
            self.journal.write().append(event);
        }
    }

    /// Adds an event to the journal that was counted and has been evicted.
    pub(super) fn restore_evicted(&self, seq: Seq, channel: ChannelName) {
        self.journal.write().append_evicted(seq, channel);
    }

    /// Restores a closed channel whose closing event is not appended.
    pub fn restore_closed(&self, entry: &Arc<ChannelEntry>, seq: Seq, closed_ms: u64) {
        entry.events().set_last_seq(seq);
        self.close(entry, seq, closed_ms);
    }

    pub(super) fn close(&self, entry: &Arc<ChannelEntry>, seq: Seq, closed_ms: u64) {
        entry.events().close(seq, closed_ms);
        self.registry.tombstones().keep(seq, entry);
    }

    /// Lets a closed channel take events again. Those up to its end are evicted, if
    /// [`evict_closed`](Self::evict_closed) has left any. An open channel stays as it is:
    /// the tail of a shared log may just have reopened it and appended a new event.
    pub fn reopen(&self, entry: &ChannelEntry) {
        let Some(closing) = entry.events().closed_seq() else { return };
        self.evict_through(entry, closing);
        self.remove_tombstone(entry, closing);
    }

    pub(super) fn remove_tombstone(&self, entry: &ChannelEntry, closing: Seq) {
        if entry.events().reopen(closing) {
            self.registry.tombstones().remove(closing);
        }
    }

    /// Notes what was lost when the hub ended, since it was not in the log on disk: any channel
    /// that matches one of these patterns may have lost events up to the seq beside the pattern.
    pub fn lose_transient(&self, lost: Vec<(ChannelPattern, Seq)>) {
        let directory = self.registry.directory();
        for entry in directory.select(usize::MAX, |_| true) {
            let of = lost.iter().filter(|(pattern, _)| pattern.matches(entry.name()));
            let Some(through) = of.map(|(_, through)| *through).max() else { continue };
            entry.events().with_history(|history| {
                let evicted = history.lose_through(through);
                self.note_eviction(&mut self.journal.write(), &entry, &evicted);
            });
            entry.events().lose_through(through);
        }
        directory.lose_transient(lost);
    }

    /// The seq of the oldest retained event that is on disk, or a seq before it. This looks at
    /// every channel, unless the channel that had the oldest event the last time still has one up
    /// to `enough`: that one suffices then.
    pub fn oldest_retained(&self, enough: Seq) -> Seq {
        let first = |entry: &ChannelEntry| {
            let events = entry.events();
            events.with_history(|history| history.first_written(events.unwritten()))
        };
        let last = self.oldest.lock().upgrade();
        if let Some(oldest) = last.and_then(|entry| first(&entry)).filter(|seq| *seq <= enough) {
            return oldest;
        }
        // Read the head before the histories: events that are appended meanwhile are after it.
        let mut oldest = self.head().next();
        let directory = self.registry.directory();
        directory.for_each(|entry| {
            if let Some(first) = first(entry).filter(|first| *first < oldest) {
                oldest = first;
                *self.oldest.lock() = Arc::downgrade(entry);
            }
        });
        oldest
    }

    /// Evicts an event that the log on disk is about to remove.
    pub fn evict_removed(&self, channel: &ChannelName, seq: Seq, bytes: u64) {
        let Some(entry) = self.registry.directory().find(channel) else { return };
        entry.events().with_history(|history| {
            let evicted = history.evict_removed(seq, bytes);
            self.note_eviction(&mut self.journal.write(), &entry, &evicted);
        });
    }

    /// Evicts all events up to `last`: the log on disk is about to remove them, and cannot read
    /// which channels they belong to.
    pub fn evict_all_through(&self, last: Seq) {
        self.registry.directory().for_each(|entry| self.evict_through(entry, last));
    }

    /// Notes that the log on disk begins with `first` from now on: it is about to remove the events
    /// before, which have been evicted.
    pub fn set_first_on_disk(&self, first: Seq) {
        let set = |before| (before > 0).then_some(first.0);
        let _ = self.first_on_disk.fetch_update(Ordering::AcqRel, Ordering::Acquire, set);
    }

    /// From now on the log on disk may lack events: those of transient channels are evicted when
    /// they leave memory. Called before the first of them is shown.
    pub fn expect_transient(&self) {
        self.has_transient.store(true, Ordering::Release);
    }

    /// Whether the log on disk may not have all events.
    pub(super) fn has_transient(&self) -> bool {
        self.has_transient.load(Ordering::Acquire)
    }

    /// Events up to here are not in memory: those that are retained are on disk alone. Later events
    /// are in memory as long as they are retained.
    pub fn unloaded_through(&self) -> Seq {
        Seq(self.unloaded_through.load(Ordering::Acquire))
    }

    /// Drops every event and continues after `head`, perhaps in another epoch. Channels have lost
    /// what `lost` says. Connections that have read before the reset must be closed; they are sent
    /// their gaps when they come back.
    pub fn reset(&self, epoch: Epoch, lost: LostThrough, head: Seq) {
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.epoch.store(epoch.to_u64(), Ordering::Release);
        let directory = self.registry.directory();
        directory.reset_losses(lost);
        for entry in directory.select(usize::MAX, |_| true) {
            let lost_through = directory.evicted_channels().recall(entry.name()).through;
            self.begin_after(&entry, lost_through);
            if let Some(closing) = entry.events().closed_seq() {
                self.remove_tombstone(&entry, closing);
            }
        }
        self.journal.write().reset(head);
        self.head.store(head.0, Ordering::Release);
    }

    /// Drops a channel's events, and notes that it has lost those up to `lost_through`. A reader
    /// must not have read them.
    pub fn begin_after(&self, entry: &ChannelEntry, lost_through: Seq) {
        let bytes = entry.events().with_history(|history| {
            let evicted = history.evict_through(Seq(u64::MAX));
            *history = History::starting_after(lost_through);
            evicted.bytes
        });
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        entry.events().set_last_seq(lost_through);
    }

    /// Moves the head to `head` after a log on disk has been read to its end. The log has no events
    /// between its last one and `head`.
    pub fn skip_to(&self, head: Seq) {
        self.journal.write().skip_to(head);
        self.commit(head);
    }

    /// Makes one step to evict the events that a channel's limits no longer allow, those that are
    /// too old above all. A step is bounded; true when there may be more to evict.
    pub fn evict_due(&self, entry: &ChannelEntry, now_ms: u64) -> bool {
        entry.events().with_limits(|history, limits| {
            let oldest_ms = now_ms.saturating_sub(u64::from(limits.age_max_s) * 1_000);
            let evicted = history.evict_due(oldest_ms, limits, EVENTS_PER_STEP);
            self.note_eviction(&mut self.journal.write(), entry, &evicted);
            evicted.seqs.len() == EVENTS_PER_STEP
        })
    }

    /// Makes one step to evict the events of a closed channel; true when there may be more.
    pub fn evict_closed(&self, entry: &ChannelEntry) -> bool {
        let Some(closing) = entry.events().closed_seq() else { return false };
        self.evict_some_through(entry, closing)
    }

    /// Drops the history of a channel that is about to be evicted.
    pub fn evict_all(&self, entry: &ChannelEntry) {
        self.evict_through(entry, Seq(u64::MAX));
    }

    /// Readers and publishers get the locks between the steps.
    fn evict_through(&self, entry: &ChannelEntry, through: Seq) {
        while self.evict_some_through(entry, through) {}
    }

    fn evict_some_through(&self, entry: &ChannelEntry, through: Seq) -> bool {
        entry.events().with_history(|history| {
            let evicted = history.evict_some_through(through, EVENTS_PER_STEP);
            self.note_eviction(&mut self.journal.write(), entry, &evicted);
            evicted.seqs.len() == EVENTS_PER_STEP
        })
    }

    /// How often all events were dropped. What was read before a reset must not be combined with
    /// what is read after it.
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::Acquire)
    }

    /// The latest events of the log.
    pub(super) fn journal(&self) -> RwLockReadGuard<'_, Journal> {
        self.journal.read()
    }

    /// Notes an eviction from a history, whose lock the caller holds.
    fn note_eviction(&self, journal: &mut Journal, entry: &ChannelEntry, evicted: &Evicted) {
        if evicted.is_empty() {
            return;
        }
        let events = entry.events();
        let eviction = journal.evict(&evicted.seqs);
        events.set_eviction(eviction);
        if evicted.unloaded_through.max(events.unwritten()) > Seq::ZERO {
            note_only_copies(journal, entry, evicted, eviction);
        }
        self.bytes.fetch_sub(evicted.bytes, Ordering::Relaxed);
    }

    /// Evicts the hub's oldest events, or has their bodies leave memory if they are on disk.
    fn make_room(&self) {
        let is_on_disk = self.is_on_disk();
        let mut ranking = self.ranking.lock();
        while self.bytes() > self.total_bytes_max {
            let Some((entry, next)) = ranking.take_oldest() else { break };
            let oldest = entry.events().with_history(|history| {
                // Up to the next channel's oldest event, a bounded number at a time.
                let mut through = Seq::ZERO;
                let mut bytes = 0;
                // An actor may have evicted enough meanwhile.
                let over = self.bytes().saturating_sub(self.total_bytes_max);
                for event in history.in_memory().take(64).take_while(|event| event.seq <= next) {
                    if bytes >= over {
                        break;
                    }
                    bytes += History::cost(event);
                    through = event.seq;
                }
                let mut journal = self.journal.write();
                if is_on_disk {
                    // Events that are not on disk are evicted.
                    let evicted = history.evict_through(through.min(entry.events().unwritten()));
                    self.note_eviction(&mut journal, &entry, &evicted);
                    // Bodies leave memory in the order of the log over all channels, so all later
                    // events are in memory.
                    journal.unload_through(through);
                    let bytes = history.unload_through(through);
                    self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    self.unloaded_through.fetch_max(through.0, Ordering::AcqRel);
                } else {
                    let evicted = history.evict_through(through);
                    self.note_eviction(&mut journal, &entry, &evicted);
                }
                history.in_memory().next().map(|event| event.seq)
            });
            match oldest {
                Some(oldest) => ranking.put_back(oldest, &entry),
                None => entry.events().unrank(),
            }
        }
    }
}

/// Events evicted under one hold of a channel's lock, and of the journal's, which publishers wait
/// for.
const EVENTS_PER_STEP: usize = 256;

/// Notes the eviction of events that were on disk alone, or in memory alone although there is a log
/// on disk.
#[cold]
fn note_only_copies(journal: &mut Journal, entry: &ChannelEntry, evicted: &Evicted, eviction: u64) {
    let events = entry.events();
    if evicted.unloaded_through > Seq::ZERO {
        events.lose_on_disk(Losses { through: evicted.unloaded_through, eviction });
    }
    if let Some(last) = evicted.seqs.last().filter(|_| events.unwritten() > Seq::ZERO) {
        journal.lose_unwritten(*last);
    }
}

/// What tests look at.
#[cfg(test)]
impl EventStore {
    /// How much of each kind is in memory.
    pub(crate) fn sizes(&self) -> [(&'static str, usize); 6] {
        let directory = self.registry.directory();
        [
            ("channels", directory.len()),
            ("names of evicted channels", directory.evicted_channels().len()),
            ("tombstones", self.registry.tombstones().len()),
            ("channels in the ranking", self.ranking.lock().len()),
            ("events in the journal", self.journal().len()),
            ("bytes of events in memory", self.bytes() as usize),
        ]
    }
}

#[cfg(test)]
mod tests;
