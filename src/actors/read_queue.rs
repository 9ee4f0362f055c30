//! The queue of reads of the log on disk, and how a thread serves it.
//!
//! A search for last events lets other reads go first after each turn. A read that fails for lack
//! of a file or of memory is queued again after the others, for a bounded time.

use std::{
    collections::VecDeque,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    pending_read::{ReadFailure, Reply},
    read_limits::ReadLimits,
    search_wait::MemoryWaiters,
    shared_search::{SharedSearch, SharedSearches},
};
use crate::{
    backend::{EventStore, LastSearch, LogRead, LogReadError, Piece},
    disk::{LocalDirectory, LogReader, ReadError},
    telemetry::{DiskMetrics, LogThrottle},
};

/// A piece. It counts against the bound on bytes that were read and not taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct ReadPiece {
    piece: Piece,
    bytes: u64,
    queue: Arc<Queue>,
}

impl ReadPiece {
    /// Takes the events out of the piece.
    pub(crate) fn into_piece(mut self) -> Piece {
        mem::take(&mut self.piece)
    }
}

impl Drop for ReadPiece {
    fn drop(&mut self) {
        self.queue.state.lock().ready_bytes -= self.bytes;
        self.queue.changed.notify_one();
    }
}

pub(super) struct Queue {
    pub(super) store: Arc<EventStore>,
    log: LogReader<LocalDirectory>,
    pub(super) limits: ReadLimits,
    pub(super) metrics: Arc<DiskMetrics>,
    failures: LogThrottle,
    pub(super) memory_waiters: Arc<MemoryWaiters>,
    shortages: LogThrottle,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Reads that were cancelled since the queue was last purged: the most that may still be in it.
    pub(super) cancelled: Arc<AtomicUsize>,
    /// The same for searches, which hold the events that they have found.
    pub(super) cancelled_searches: Arc<AtomicUsize>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) reads: VecDeque<Queued>,
    /// The searches in the queue or under way.
    pub(super) searches: SharedSearches,
    /// No read is served before this time: there was no file or no memory for one.
    paused_until: Option<Instant>,
    /// When reads began to fail for lack of a file or of memory; none has succeeded since.
    pub(super) short_since: Option<Instant>,
    /// Bytes that were read and not taken.
    ready_bytes: u64,
    pub(super) has_stopped: bool,
    /// A test holds back reads, as a disk that hangs would.
    #[cfg(test)]
    pub(super) held: Held,
}

pub(super) struct Queued {
    pub(super) read: Read,
    /// When it first failed for lack of a file or of memory.
    pub(super) short_since: Option<Instant>,
}

pub(super) enum Read {
    /// The next piece of a reader.
    Piece(LogRead, Reply<ReadPiece>),
    /// A turn of a search for last events.
    Search(LastSearch, Arc<SharedSearch>),
}

impl Read {
    /// Whether its reader has gone.
    fn is_cancelled(&self) -> bool {
        match self {
            Self::Piece(_, reply) => reply.is_closed(),
            Self::Search(_, shared) => shared.is_cancelled(),
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(
        store: Arc<EventStore>,
        log: LogReader<LocalDirectory>,
        limits: ReadLimits,
        metrics: Arc<DiskMetrics>,
    ) -> Self {
        Self {
            memory_waiters: MemoryWaiters::new(&metrics),
            store,
            log,
            limits,
            metrics,
            failures: LogThrottle::default(),
            shortages: LogThrottle::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            cancelled: Arc::default(),
            cancelled_searches: Arc::default(),
        }
    }

    /// Removes the reads that were cancelled.
    pub(super) fn purge(&self, state: &mut State) {
        self.cancelled.store(0, Ordering::Relaxed);
        self.cancelled_searches.store(0, Ordering::Relaxed);
        state.reads.retain(|queued| !queued.read.is_cancelled());
        state.searches.purge();
    }

    pub(super) fn push(&self, state: &mut State, queued: Queued) {
        state.reads.push_back(queued);
        self.metrics.reads_wait(state.reads.len());
        self.changed.notify_one();
    }

    /// Serves one read after the other, until the end.
    pub(super) fn serve(self: &Arc<Self>) {
        while let Some(queued) = self.next() {
            if let Some(queued) = self.serve_one(queued) {
                self.put_off(queued);
            }
        }
    }

    /// Serves a read. Returns it if it failed for lack of a file or of memory and is to be
    /// repeated.
    fn serve_one(self: &Arc<Self>, queued: Queued) -> Option<Queued> {
        let Queued { read, mut short_since } = queued;
        let started = Instant::now();
        // A reader that has gone meanwhile drops the result.
        match read {
            Read::Piece(read, reply) => {
                let result = self.perform(|| self.store.read_log(&self.log, &read));
                if self.is_put_off(&result, &mut short_since) {
                    return Some(Queued { read: Read::Piece(read, reply), short_since });
                }
                let result = result.map(|piece| self.ready(piece));
                let bytes = result.as_ref().map_or(0, |piece| piece.bytes);
                self.metrics.observe_read(started.elapsed(), bytes);
                let _ = reply.send(result);
            }
            Read::Search(mut search, shared) => {
                let bytes_max = self.limits.search_bytes_max;
                let turn = self
                    .perform(|| Ok(self.store.search_log(&self.log, &mut search, bytes_max)?));
                if self.is_put_off(&turn, &mut short_since) {
                    return Some(Queued { read: Read::Search(search, shared), short_since });
                }
                self.metrics.observe_search(started.elapsed(), *turn.as_ref().unwrap_or(&0));
                self.end_turn(search, &shared, turn.map(drop));
            }
        }
        None
    }

    /// Answers the readers that wait for a search, or queues its next turn.
    fn end_turn(
        &self,
        search: LastSearch,
        shared: &Arc<SharedSearch>,
        turn: Result<(), ReadFailure>,
    ) {
        if turn.is_ok() && search.needs_disk() {
            let mut state = self.state.lock();
            if !state.has_stopped {
                let read = Read::Search(search, Arc::clone(shared));
                self.push(&mut state, Queued { read, short_since: None });
            }
            return;
        }
        if search.is_cut() {
            self.metrics.search_limited();
        }
        // In order, so the sort is done on this thread.
        let result = turn.map(|()| search.into_found());
        self.state.lock().searches.remove(shared);
        shared.answer(&result);
    }

    /// Whether a read is to be repeated, which ends if it has failed for long.
    fn is_put_off<T>(
        &self,
        result: &Result<T, ReadFailure>,
        short_since: &mut Option<Instant>,
    ) -> bool {
        let mut state = self.state.lock();
        if !matches!(result, Err(ReadFailure::Busy)) {
            state.short_since = None;
            return false;
        }
        let is_early = state.is_short_time(short_since, Instant::now());
        if !is_early {
            self.metrics.read_refused();
        }
        is_early
    }

    /// Queues a read after the others, and pauses all of them.
    fn put_off(&self, queued: Queued) {
        let mut state = self.state.lock();
        if !state.has_stopped {
            state.paused_until = Some(Instant::now() + SHORTAGE_PAUSE);
            self.push(&mut state, queued);
        }
    }

    fn perform<T>(&self, read: impl FnOnce() -> Result<T, LogReadError>) -> Result<T, ReadFailure> {
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(self.failure(&error)),
            Err(_) => Err(ReadFailure::Unreadable),
        }
    }

    /// Waits for the next read, and for room for its piece.
    fn next(&self) -> Option<Queued> {
        let mut state = self.state.lock();
        loop {
            if state.has_stopped {
                return None;
            }
            if let Some(until) = state.paused_until {
                if Instant::now() < until {
                    self.changed.wait_until(&mut state, until);
                    continue;
                }
                state.paused_until = None;
            }
            let has_room = state.ready_bytes < self.limits.bytes_max;
            if has_room && let Some(Queued { read, short_since }) = state.pop() {
                self.metrics.reads_wait(state.reads.len());
                if !read.is_cancelled() {
                    return Some(Queued { read, short_since });
                }
                // Under the lock under which other readers join.
                if let Read::Search(_, shared) = &read {
                    state.searches.remove(shared);
                }
                self.metrics.read_cancelled();
                continue;
            }
            self.changed.wait(&mut state);
        }
    }

    fn ready(self: &Arc<Self>, piece: Piece) -> ReadPiece {
        let bytes = piece.events.iter().map(|event| event.bytes().len() as u64).sum();
        self.state.lock().ready_bytes += bytes;
        ReadPiece { piece, bytes, queue: Arc::clone(self) }
    }

    fn failure(&self, error: &LogReadError) -> ReadFailure {
        match error {
            LogReadError::FellOff => ReadFailure::FellOff,
            LogReadError::Failed(ReadError::Closed) => ReadFailure::Closed,
            LogReadError::Failed(error) if error.is_temporary() => {
                if let Some(times) = self.shortages.due() {
                    tracing::warn!(
                        times,
                        "history on disk cannot be read for now, and its readers wait: {error}"
                    );
                }
                ReadFailure::Busy
            }
            LogReadError::Failed(error) => {
                self.metrics.read_failed();
                if let Some(times) = self.failures.due() {
                    tracing::error!(
                        times,
                        "history cannot be read from disk, and its readers are disconnected: \
                         {error}. `visnyk log verify` says what is damaged"
                    );
                }
                ReadFailure::Unreadable
            }
        }
    }
}

impl State {
    /// The next read.
    fn pop(&mut self) -> Option<Queued> {
        #[cfg(test)]
        match self.held {
            Held::Nothing => {}
            Held::All => return None,
            Held::Pieces => {
                let is_search = |queued: &Queued| matches!(queued.read, Read::Search(..));
                return self.reads.remove(self.reads.iter().position(is_search)?);
            }
        }
        self.reads.pop_front()
    }

    /// Whether a read that has just failed for lack of a file or of memory may be repeated: all
    /// reads, and this one, have failed for less than `SHORTAGE_TIME_MAX`. The read's own time
    /// counts too, since reads that are answered from memory succeed meanwhile.
    fn is_short_time(&mut self, of_this: &mut Option<Instant>, now: Instant) -> bool {
        let of_all = *self.short_since.get_or_insert(now);
        let since = of_all.min(*of_this.get_or_insert(now));
        now.saturating_duration_since(since) < SHORTAGE_TIME_MAX
    }
}

/// Which reads a test holds back.
#[cfg(test)]
#[derive(Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    Pieces,
    All,
}

/// How long reads that fail for lack of a file or of memory are repeated. After that each such read
/// is answered `Busy` at its first failure, until a read succeeds.
const SHORTAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause of all reads after such a failure.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reads_end_in_time_without_files_however_many_wait() {
        let mut state = State::default();
        let mut waiting: VecDeque<Option<Instant>> = vec![None; 1_000].into();
        let begun = Instant::now();
        let mut now = begun;
        while let Some(mut short_since) = waiting.pop_front() {
            if state.is_short_time(&mut short_since, now) {
                waiting.push_back(short_since);
                now += SHORTAGE_PAUSE;
            }
        }
        assert_eq!(now - begun, SHORTAGE_TIME_MAX);
    }

    #[test]
    fn a_read_without_a_file_ends_in_time_while_others_are_made() {
        let (mut state, mut of_this) = (State::default(), None);
        let begun = Instant::now();
        let mut now = begun;
        while state.is_short_time(&mut of_this, now) {
            now += SHORTAGE_PAUSE;
            // Another one succeeds.
            state.short_since = None;
        }
        assert_eq!(now - begun, SHORTAGE_TIME_MAX);
        state.short_since = None;
        assert!(state.is_short_time(&mut None, now), "the next one waits again");
    }
}
