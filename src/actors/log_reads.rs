//! Reads of the log on disk for readers of history: a few threads, so that no thread that serves
//! connections waits for a disk.
//!
//! A read is a bounded piece, or a search for last events, which gives way to the others after each turn. A reader
//! has one at a time, and equal searches are one, so they take turns. What is read and not taken yet is bounded in
//! bytes. Dropping a [`PendingRead`] cancels it.

use std::{
    collections::VecDeque,
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    pending_read::{PendingRead, ReadFailure, Reply},
    search_wait::{MemoryWaiters, PendingSearch},
    shared_search::{SharedSearch, SharedSearches},
};
use crate::{
    backend::{EventStore, FoundEvents, LastSearch, LogRead, LogReadError, Piece},
    disk::{LOG_FILES_MAX, LocalDirectory, LogReader, ReadError},
    telemetry::{DiskMetrics, LogThrottle},
};

/// What reads of the disk may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Threads that read; each has one read under way.
    pub threads: u32,
    /// Reads that wait for a thread, one for each reader; past it a connection is closed, and a
    /// poll refused.
    pub queue_max: u32,
    /// A piece ends after this many frame bytes.
    pub piece_bytes: u32,
    /// Bytes of pieces that are read and not taken by their readers; past it nothing more is read.
    pub bytes_max: u64,
    /// Bytes of the log that are kept in memory for other readers; the same again for its indexes.
    pub cache_bytes_max: u64,
    /// Bytes of the log that one search for the last events of channels reads; past it a subscription
    /// starts with what was found, behind a gap.
    pub search_bytes_max: u64,
    /// Bytes of memory that all such searches hold together, and what they have found until it is sent. Past
    /// it further ones wait, as many as reads wait at most.
    pub search_memory_bytes_max: u64,
}

impl ReadLimits {
    /// How many files the log has open at most, its readers included.
    pub(crate) fn log_files_max(&self) -> usize {
        // A thread that reads has a segment and an index open for a moment.
        LOG_FILES_MAX + 2 * self.threads as usize
    }
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            threads: 2,
            queue_max: 65_536,
            piece_bytes: 64 << 10,
            bytes_max: 16 << 20,
            cache_bytes_max: 16 << 20,
            search_bytes_max: 1 << 30,
            search_memory_bytes_max: 64 << 20,
        }
    }
}

/// The threads and their queue. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct LogReads {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The queue of reads is full.
#[derive(Debug)]
pub(crate) struct ReadsBusy;

/// A piece. It counts against the bound on what is read and not taken until it is dropped.
#[derive(Debug)]
pub(crate) struct ReadPiece {
    piece: Piece,
    bytes: u64,
    queue: Arc<Queue>,
}

impl ReadPiece {
    /// Takes the events out.
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

struct Queue {
    store: Arc<EventStore>,
    log: LogReader<LocalDirectory>,
    limits: ReadLimits,
    metrics: Arc<DiskMetrics>,
    failures: LogThrottle,
    memory_waiters: Arc<MemoryWaiters>,
    shortages: LogThrottle,
    state: Mutex<State>,
    changed: Condvar,
    /// Reads that were cancelled since the queue was last purged: the most that may still be in it.
    cancelled: Arc<AtomicUsize>,
    /// The same of searches, which hold what they have found.
    cancelled_searches: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    reads: VecDeque<Queued>,
    /// The searches that are among them or under way.
    searches: SharedSearches,
    /// Nothing is read before this: there was no file or no memory for a read.
    paused_until: Option<Instant>,
    /// When reads began to fail for want of a file or of memory; none has succeeded since.
    short_since: Option<Instant>,
    /// Bytes that are read and not taken.
    ready_bytes: u64,
    has_stopped: bool,
    /// A test holds back reads, as a disk that hangs would.
    #[cfg(test)]
    held: Held,
}

struct Queued {
    read: Read,
    /// When it first failed for want of a file or of memory.
    short_since: Option<Instant>,
}

enum Read {
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

impl LogReads {
    /// Starts the threads.
    pub(crate) fn start(
        store: Arc<EventStore>,
        log: LogReader<LocalDirectory>,
        limits: ReadLimits,
        metrics: Arc<DiskMetrics>,
    ) -> io::Result<Self> {
        log.keep_in_memory(limits.cache_bytes_max);
        store.limit_searches(limits.search_memory_bytes_max);
        let queue = Arc::new(Queue {
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
        });
        let reads = Self { queue, threads: Mutex::default() };
        for _ in 0..limits.threads {
            let queue = Arc::clone(&reads.queue);
            let thread = thread::Builder::new()
                .name("visnyk-log-read".to_owned())
                .spawn(move || queue.serve())?;
            reads.threads.lock().push(thread);
        }
        Ok(reads)
    }

    /// Frame bytes of a piece.
    pub(crate) fn piece_bytes(&self) -> usize {
        self.queue.limits.piece_bytes as usize
    }

    /// Queues a read.
    pub(crate) fn read(&self, read: LogRead) -> Result<PendingRead<ReadPiece>, ReadsBusy> {
        self.queue(&self.queue.cancelled, |reply, _| Read::Piece(read, reply))
    }

    /// Lets a search for last events wait for memory; or queues the part of it that is on disk, or joins an
    /// equal one.
    pub(crate) fn search(&self, search: LastSearch) -> Result<PendingSearch, ReadsBusy> {
        let queue = &self.queue;
        let waits_for = search.waits_for().zip(queue.store.search_memory());
        let Some((bytes, memory)) = waits_for else {
            return self.search_disk(search).map(PendingSearch::from);
        };
        if queue.memory_waiters.count() >= queue.limits.queue_max as usize {
            queue.metrics.read_refused();
            return Err(ReadsBusy);
        }
        Ok(PendingSearch::for_memory(search, memory.take(bytes), &queue.memory_waiters))
    }

    fn search_disk(&self, search: LastSearch) -> Result<PendingRead<FoundEvents>, ReadsBusy> {
        let cancelled = &self.queue.cancelled_searches;
        {
            let mut state = self.queue.state.lock();
            // A search of several readers counts for each that has gone, so there may be far fewer.
            let cancelled_max = CANCELLED_SEARCHES_MAX.max(state.reads.len() / CANCELLED_SHARE);
            if cancelled.load(Ordering::Relaxed) > cancelled_max {
                self.queue.purge(&mut state);
            }
            let room = (self.queue.limits.queue_max as usize).saturating_sub(state.reads.len());
            if let Some(shared) = state.searches.find(&search)
                && shared.waiting() < room
            {
                let (reply, pending) = PendingRead::new(cancelled);
                shared.join(reply);
                self.queue.metrics.search_shared();
                return Ok(pending);
            }
        }
        self.queue(cancelled, |reply, searches| {
            let shared = searches.add(&search, reply);
            Read::Search(search, shared)
        })
    }

    /// Queues a read that counts as one of `cancelled` if it is dropped.
    fn queue<T>(
        &self,
        cancelled: &Arc<AtomicUsize>,
        read: impl FnOnce(Reply<T>, &mut SharedSearches) -> Read,
    ) -> Result<PendingRead<T>, ReadsBusy> {
        let (reply, pending) = PendingRead::new(cancelled);
        let queue_max = self.queue.limits.queue_max as usize;
        let mut state = self.queue.state.lock();
        if state.reads.len() >= queue_max {
            // Remove cancelled reads, but only if there are many: this thread serves connections.
            if self.queue.cancelled.load(Ordering::Relaxed) > queue_max / CANCELLED_SHARE {
                self.queue.purge(&mut state);
            }
            if state.reads.len() >= queue_max {
                self.queue.metrics.read_refused();
                return Err(ReadsBusy);
            }
        }
        if !state.has_stopped {
            let read = read(reply, &mut state.searches);
            self.queue.push(&mut state, Queued { read, short_since: None });
        }
        Ok(pending)
    }

    /// Reads nothing more.
    pub(super) fn stop(&self) {
        let mut state = self.queue.state.lock();
        state.has_stopped = true;
        state.searches.clear();
        let reads = mem::take(&mut state.reads);
        self.queue.changed.notify_all();
        drop(state);
        drop(reads);
        // Those that wait for memory.
        if let Some(memory) = self.queue.store.search_memory() {
            memory.close();
        }
    }

    /// Reads nothing more, and waits for the reads under way.
    pub(super) fn finish(&self) {
        self.stop();
        for thread in mem::take(&mut *self.threads.lock()) {
            // Their panics have been caught.
            let _ = thread.join();
        }
    }

    #[cfg(test)]
    pub(crate) fn hold(&self, is_held: bool) {
        self.hold_some(if is_held { Held::All } else { Held::Nothing });
    }

    /// The same for pieces, while searches are made.
    #[cfg(test)]
    pub(crate) fn hold_pieces(&self, are_held: bool) {
        self.hold_some(if are_held { Held::Pieces } else { Held::Nothing });
    }

    #[cfg(test)]
    fn hold_some(&self, held: Held) {
        self.queue.state.lock().held = held;
        self.queue.changed.notify_all();
    }

    /// Pieces that wait.
    #[cfg(test)]
    pub(crate) fn waiting_pieces(&self) -> usize {
        let state = self.queue.state.lock();
        state.reads.iter().filter(|queued| matches!(queued.read, Read::Piece(..))).count()
    }

    /// Reads that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.state.lock().reads.len()
    }
}

impl Drop for LogReads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Queue {
    /// Removes the reads that were cancelled.
    fn purge(&self, state: &mut State) {
        self.cancelled.store(0, Ordering::Relaxed);
        self.cancelled_searches.store(0, Ordering::Relaxed);
        state.reads.retain(|queued| !queued.read.is_cancelled());
        state.searches.purge();
    }

    fn push(&self, state: &mut State, queued: Queued) {
        state.reads.push_back(queued);
        self.metrics.reads_wait(state.reads.len());
        self.changed.notify_one();
    }

    /// Serves one read after the other, until the end.
    fn serve(self: &Arc<Self>) {
        while let Some(queued) = self.next() {
            if let Some(queued) = self.serve_one(queued) {
                self.put_off(queued);
            }
        }
    }

    /// Serves a read. Gives it back if it failed for want of a file or of memory and is to be tried again.
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

    /// Answers those that wait for a search, or queues its next turn.
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
        // In order, so on this thread.
        let result = turn.map(|()| search.into_found());
        self.state.lock().searches.remove(shared);
        shared.answer(&result);
    }

    /// Whether a read is to be tried again: not if that has failed for long.
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

    /// Puts a read behind the others, and has all of them wait a little.
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
                // Under the lock under which others join.
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
            LogReadError::Failed(error) if error.may_pass() => {
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

    /// Whether a read that has just failed for want of a file or of memory may be tried again: all reads
    /// and this one have failed for less than `SHORTAGE_TIME_MAX`. Its own time counts too, since reads
    /// that are answered from memory succeed meanwhile.
    fn is_short_time(&mut self, of_this: &mut Option<Instant>, now: Instant) -> bool {
        let of_all = *self.short_since.get_or_insert(now);
        let since = of_all.min(*of_this.get_or_insert(now));
        now.saturating_duration_since(since) < SHORTAGE_TIME_MAX
    }
}

/// Which reads a test holds back.
#[cfg(test)]
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Pieces,
    All,
}

/// How long reads that fail for want of a file or of memory are tried again. After that each such read is
/// answered `Busy` at its first failure, until a read succeeds.
const SHORTAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause of all reads after such a failure.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);
/// Searches that may be in the queue although they were cancelled, or as many as make a [share](CANCELLED_SHARE)
/// of it.
const CANCELLED_SEARCHES_MAX: usize = 16;
/// The queue is purged of cancelled reads once they are more than this share of it (1/16).
const CANCELLED_SHARE: usize = 16;

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
