//! Reads of the log on disk for readers of history: a few threads, so that no thread that serves
//! connections waits for a disk.
//!
//! A read is a bounded piece, or a search for last events, which lets other reads go first after
//! each turn. Each reader has one read at a time, so no reader keeps the threads to itself. Equal
//! searches are made once. The bytes that were read and not taken are bounded. Dropping a
//! [`PendingRead`] cancels it.

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;

#[cfg(test)]
use super::read_queue::Held;
use super::{
    pending_read::{PendingRead, Reply},
    read_limits::ReadLimits,
    read_queue::{Queue, Queued, Read, ReadPiece},
    search_wait::PendingSearch,
    shared_search::SharedSearches,
};
use crate::{
    backend::{EventStore, FoundEvents, LastSearch, LogRead},
    disk::{LocalDirectory, LogReader},
    telemetry::DiskMetrics,
};

/// The threads and their queue. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct LogReads {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The queue of reads is full.
#[derive(Debug)]
pub(crate) struct ReadsBusy;

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
        let queue = Arc::new(Queue::new(store, log, limits, metrics));
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

    /// Lets a search for last events wait for memory; or queues the part of it that is on disk, or
    /// joins an equal one.
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

    /// Drops the queued reads, and lets no further one begin.
    pub(super) fn stop(&self) {
        let mut state = self.queue.state.lock();
        state.has_stopped = true;
        state.searches.clear();
        let reads = mem::take(&mut state.reads);
        self.queue.changed.notify_all();
        drop(state);
        drop(reads);
        // Ends the searches that wait for memory.
        if let Some(memory) = self.queue.store.search_memory() {
            memory.close();
        }
    }

    /// As [`stop`](Self::stop), and waits for the reads under way.
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

/// Searches that may be in the queue although they were cancelled, or as many as make a
/// [share](CANCELLED_SHARE) of it.
const CANCELLED_SEARCHES_MAX: usize = 16;
/// The queue is purged of cancelled reads once they are more than this share of it (1/16).
const CANCELLED_SHARE: usize = 16;
