//! The event store's part of a channel's record: its history, its losses, and whether it is closed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{
    losses::{KnownLosses, Losses},
    piece::SeqRange,
};
use crate::{
    core::{FellOff, History, HistoryLimits, NotInMemory, Slice},
    model::Seq,
};

/// The events of one channel.
#[derive(Debug)]
pub struct ChannelEvents {
    /// Earlier incarnations of the channel may have lost events up to this seq.
    created_after: Seq,
    /// The number of the latest eviction from it, its earlier incarnations included.
    eviction: AtomicU64,
    retained: Mutex<Retained>,
    /// The newest seq, so that a reader sees without a lock that there is nothing new.
    last_seq: AtomicU64,
    /// Whether its closing event has a seq, even if readers do not see that event yet.
    closing: AtomicBool,
    /// The seq of its closing event; zero as long as readers do not see that event.
    closed_seq: AtomicU64,
    closed_ms: AtomicU64,
    /// Whether it has an entry in the ranking of the memory ceiling.
    ranked: AtomicBool,
    /// Its newest event that a log on disk does not have, or zero.
    unwritten: AtomicU64,
    /// Its losses of events that were on disk alone, and those of its earlier incarnations.
    lost_on_disk: Mutex<Losses>,
}

/// A history with its limits.
#[derive(Debug)]
struct Retained {
    history: History,
    limits: HistoryLimits,
}

impl ChannelEvents {
    pub(super) fn new(earlier: Losses, limits: HistoryLimits) -> Self {
        let history = History::starting_after(earlier.through);
        Self {
            created_after: earlier.through,
            eviction: AtomicU64::new(earlier.eviction),
            retained: Mutex::new(Retained { history, limits }),
            last_seq: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            closed_seq: AtomicU64::new(0),
            closed_ms: AtomicU64::new(0),
            ranked: AtomicBool::new(false),
            unwritten: AtomicU64::new(0),
            lost_on_disk: Mutex::new(earlier),
        }
    }

    /// Sets the history that was counted at the start, with its losses.
    pub(super) fn restore(&self, history: History, last: Seq, eviction: u64, lost_on_disk: Losses) {
        self.retained.lock().history = history;
        self.set_last_seq(last);
        self.set_eviction(eviction);
        self.lose_on_disk(lost_on_disk);
    }

    /// Runs `read` on the history, under its lock.
    #[inline]
    pub fn with_history<T>(&self, read: impl FnOnce(&mut History) -> T) -> T {
        #[cfg(test)]
        super::tests::before_lock();
        read(&mut self.retained.lock().history)
    }

    /// Runs `change` on the history and its limits, under its lock.
    #[inline]
    pub(super) fn with_limits<T>(
        &self,
        change: impl FnOnce(&mut History, &HistoryLimits) -> T,
    ) -> T {
        #[cfg(test)]
        super::tests::before_lock();
        let Retained { history, limits } = &mut *self.retained.lock();
        change(history, limits)
    }

    /// Sets the limits of its history. They apply from the next event or check of ages.
    pub(super) fn set_limits(&self, limits: HistoryLimits) {
        self.retained.lock().limits = limits;
    }

    /// The losses of the channel: the last evicted seq, and the number of the eviction.
    pub(super) fn losses(&self) -> Losses {
        let through = self.with_history(|history| history.evicted_through());
        Losses { through, eviction: self.eviction.load(Ordering::Relaxed) }
    }

    /// Losses of events that were on disk alone, not in memory.
    pub(super) fn losses_on_disk(&self) -> Losses {
        *self.lost_on_disk.lock()
    }

    /// Notes a loss of events that were on disk alone; the caller holds the history's lock.
    pub(super) fn lose_on_disk(&self, losses: Losses) {
        *self.lost_on_disk.lock() = losses;
    }

    /// Notes that a log on disk does not have this event, before it is shown.
    pub fn set_unwritten(&self, seq: Seq) {
        self.unwritten.store(seq.0, Ordering::Release);
    }

    /// Its newest event that a log on disk does not have, or zero.
    pub(super) fn unwritten(&self) -> Seq {
        Seq(self.unwritten.load(Ordering::Acquire))
    }

    /// Whether events after `after` have been evicted.
    pub(super) fn has_lost(&self, after: Seq) -> bool {
        self.losses().through > after
    }

    /// Notes the number of an eviction; the caller holds the history's lock.
    pub(super) fn set_eviction(&self, eviction: u64) {
        self.eviction.store(eviction, Ordering::Relaxed);
    }

    /// The events of `range`; an error if some were evicted and the reader does not know of it
    /// (`known`).
    pub(super) fn read(&self, known: KnownLosses, range: &SeqRange) -> Result<Slice, NotInMemory> {
        self.with_history(|history| self.read_from(history, known, range))
    }

    /// The events of [`read`](Self::read), and the seq of the next event after them, found under
    /// the same lock: if that event is evicted before it is read, it is a loss like any other.
    pub(super) fn read_and_next(
        &self,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Result<(Slice, Option<Seq>), NotInMemory> {
        self.with_history(|history| {
            let slice = self.read_from(history, known, range)?;
            let after = slice.events.last().map_or(range.after, |event| event.seq);
            Ok((slice, history.next_after(after)))
        })
    }

    fn read_from(
        &self,
        history: &History,
        known: KnownLosses,
        range: &SeqRange,
    ) -> Result<Slice, NotInMemory> {
        let after = self.after_known(history, known, range.after);
        history.read(after, range.through, range.events_max, range.bytes_max)
    }

    /// The cursor, moved past losses that the reader already knows.
    fn after_known(&self, history: &History, known: KnownLosses, after: Seq) -> Seq {
        let evicted_through = history.evicted_through();
        match known.covers(evicted_through, self.eviction.load(Ordering::Relaxed)) {
            true => after.max(evicted_through),
            false => after,
        }
    }

    /// The seq of the next event after `after`; an error if events after `after` are lost and the
    /// reader does not know of it. If the next event is on disk alone, the seq may be before it.
    pub(super) fn next_after(
        &self,
        after: Seq,
        known: KnownLosses,
    ) -> Result<Option<Seq>, FellOff> {
        // Most channels have no such events; for these no lock is taken.
        if self.last_seq() <= after && self.created_after <= after {
            return Ok(None);
        }
        self.with_history(|history| {
            let after = self.after_known(history, known, after);
            match history.evicted_through() > after {
                true => Err(FellOff),
                false => Ok(history.next_after(after)),
            }
        })
    }

    /// The newest event's seq, or zero.
    pub fn last_seq(&self) -> Seq {
        Seq(self.last_seq.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn set_last_seq(&self, seq: Seq) {
        self.last_seq.store(seq.0, Ordering::Release);
    }

    /// Notes that its closing event has a seq: the log rejects later events, even before readers
    /// see that the channel is closed.
    pub fn begin_close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether it takes no more events. Only the log asks, under its lock.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Raises its newest seq to `through`: events up to there may be lost, so readers have to look
    /// at its losses.
    pub(super) fn lose_through(&self, through: Seq) {
        self.last_seq.fetch_max(through.0, Ordering::AcqRel);
    }

    /// Whether its closing event is shown.
    pub fn is_closed(&self) -> bool {
        self.closed_seq().is_some()
    }

    /// The seq of its closing event.
    pub fn closed_seq(&self) -> Option<Seq> {
        match self.closed_seq.load(Ordering::Acquire) {
            0 => None,
            seq => Some(Seq(seq)),
        }
    }

    /// Whether the channel is open, or a reader that has everything up to `cursor` still has to get
    /// its closing event. An evicted closing event is covered by a gap.
    pub fn closing_event_due(&self, cursor: Seq) -> bool {
        self.closed_seq().is_none_or(|closed| closed > cursor && !self.has_lost(Seq(closed.0 - 1)))
    }

    /// Lets it take events again, if the event `closing` has closed it; false otherwise.
    pub(super) fn reopen(&self, closing: Seq) -> bool {
        let (acquired, failed) = (Ordering::AcqRel, Ordering::Acquire);
        let is_open = self.closed_seq.compare_exchange(closing.0, 0, acquired, failed).is_ok();
        if is_open {
            self.closing.store(false, Ordering::Release);
        }
        is_open
    }

    /// When it was closed, in milliseconds since 1970.
    pub fn closed_ms(&self) -> Option<u64> {
        self.is_closed().then(|| self.closed_ms.load(Ordering::Acquire))
    }

    /// Cuts its tombstone short.
    pub(super) fn expire(&self) {
        self.closed_ms.store(0, Ordering::Release);
    }

    pub(super) fn close(&self, seq: Seq, now_ms: u64) {
        self.begin_close();
        self.closed_ms.store(now_ms, Ordering::Release);
        self.closed_seq.store(seq.0, Ordering::Release);
    }

    /// Whether it has had no event in this incarnation. It is asked without a lock; false too if
    /// the log may have lost events of it.
    pub(super) fn never_published(&self) -> bool {
        self.last_seq() == Seq::ZERO
    }

    /// Notes that it gets an entry in the ranking of the memory ceiling; false if it has one.
    #[inline]
    pub(super) fn rank(&self) -> bool {
        !self.ranked.swap(true, Ordering::AcqRel)
    }

    /// Notes that its entry in the ranking was taken out.
    pub(super) fn unrank(&self) {
        self.ranked.store(false, Ordering::Release);
    }

    /// Whether events before its oldest one are gone. For a channel that was evicted long ago it
    /// may be true although none are: losses of such channels are not known one by one.
    pub fn is_truncated(&self) -> bool {
        self.with_history(|history| history.evicted_through() > Seq::ZERO)
    }
}
