//! Sockets on which the next request is awaited: those of answered polls, and those of plain
//! requests that were answered without hyper.
//!
//! Thousands of polls may be answered at once. A task for each socket would cost a kilobyte, a
//! timer and two registrations with the runtime. Here a socket costs an entry with a waker, and its
//! next request needs a task only if it has to wait.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::{coop::unconstrained, spawn_local, yield_now},
    time::{Instant, sleep_until},
};

use super::socket_budget::ConnectionPermits;
use crate::actors::{ReadyList, SlotKey, SlotWaker, Tcp};

/// The idle sockets of a shard. Their number is limited by the connection permits they hold.
pub(super) struct IdleSockets {
    entries: RefCell<Entries>,
    /// Entries whose sockets may have become readable.
    ready: Arc<ReadyList>,
}

#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    vacant: Vec<u32>,
}

struct Entry {
    /// The next socket of this entry reuses the waker. A late wake-up for an earlier socket costs
    /// one check of a socket that is not readable.
    waker: Arc<SlotWaker>,
    idle: Option<Idle>,
}

struct Idle {
    io: Tcp,
    permits: ConnectionPermits,
    since: Instant,
}

impl IdleSockets {
    pub(super) fn new() -> Self {
        Self { entries: RefCell::default(), ready: Arc::default() }
    }

    /// Watches a socket until its client sends something.
    pub(super) fn watch(&self, io: Tcp, permits: ConnectionPermits) {
        let mut entries = self.entries.borrow_mut();
        if entries.list.is_empty() {
            // `serve` waits for its next sweep only while there are entries, so it must look again.
            self.ready.wake();
        }
        let index = entries.vacant.pop().unwrap_or_else(|| {
            let key = SlotKey::new(entries.list.len() as u32, 0);
            let waker = SlotWaker::new(key, Arc::clone(&self.ready));
            entries.list.push(Entry { waker, idle: None });
            key.index()
        });
        let entry = &mut entries.list[index as usize];
        let idle = entry.idle.insert(Idle { io, permits, since: Instant::now() });
        if is_readable(&mut idle.io, &entry.waker) {
            entry.waker.wake_slot();
        }
    }

    /// Serves the sockets' next requests. Closes sockets that have been idle for the keep-alive
    /// time, and all idle sockets once `closing` completes. Runs until it is dropped.
    pub(super) async fn serve<S: Future<Output = ()> + 'static>(
        &self,
        keep_alive: Duration,
        closing: impl Future<Output = ()>,
        serve: impl Fn(Tcp, Bytes, ConnectionPermits) -> S + Clone + 'static,
    ) {
        let mut worker = None;
        let mut closing = pin!(closing);
        let mut is_closing = false;
        let pause = sweep_pause(keep_alive);
        let mut next_sweep = Instant::now();
        let (mut keys, mut in_a_row) = (Vec::new(), 0);
        loop {
            let has_entries = !self.entries.borrow().list.is_empty();
            tokio::select! {
                biased;
                () = &mut closing, if !is_closing => is_closing = true,
                () = self.ready.ready() => {}
                () = sleep_until(next_sweep), if has_entries => {}
            }
            self.ready.take(&mut keys);
            for key in keys.drain(..) {
                if let Some((Idle { io, permits, .. }, request)) = self.read(key) {
                    let free = worker.take().unwrap_or_else(|| Worker::new(serve.clone()));
                    worker = free.serve(io, request, permits);
                }
                in_a_row += 1;
                if in_a_row == REQUESTS_IN_A_ROW {
                    in_a_row = 0;
                    yield_now().await;
                }
            }
            let now = Instant::now();
            if is_closing || now >= next_sweep {
                next_sweep = now + pause;
                let kept = if is_closing { Duration::ZERO } else { keep_alive };
                self.close_idle_since(now, kept).await;
            }
        }
    }

    /// Removes the socket of an entry, with the bytes that its client has sent. Closes the socket
    /// if the client has closed the connection. If nothing has arrived, the socket stays, and the
    /// next bytes wake the waker of its entry.
    fn read(&self, key: SlotKey) -> Option<(Idle, Bytes)> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.list.get_mut(key.index() as usize)?;
        entry.waker.rearm();
        let Poll::Ready(read) = poll_read(&mut entry.idle.as_mut()?.io, &entry.waker) else {
            return None;
        };
        let idle = entry.idle.take()?;
        entries.vacant.push(key.index());
        let request = read.ok().filter(|request| !request.is_empty())?;
        Some((idle, request))
    }

    /// Closes sockets that have been idle for `idle_max`, unless a next request has just arrived.
    /// Yields to other tasks in between.
    async fn close_idle_since(&self, now: Instant, idle_max: Duration) {
        let mut from = 0;
        while let Some(next) = self.close_some(from, now, idle_max) {
            from = next;
            yield_now().await;
        }
    }

    /// Closes the expired sockets among [`CHECKS_IN_A_ROW`] entries, beginning at index `from`.
    /// Returns the index to continue with, if there are more entries.
    fn close_some(&self, from: usize, now: Instant, idle_max: Duration) -> Option<usize> {
        let mut entries = self.entries.borrow_mut();
        let Entries { list, vacant } = &mut *entries;
        for (index, entry) in list.iter_mut().enumerate().skip(from).take(CHECKS_IN_A_ROW) {
            let expired = entry.idle.as_mut().filter(|idle| now - idle.since >= idle_max);
            if expired.is_some_and(|idle| !is_readable(&mut idle.io, &entry.waker)) {
                entry.idle = None;
                vacant.push(index as u32);
            }
        }
        let next = from + CHECKS_IN_A_ROW;
        if next < list.len() {
            return Some(next);
        }
        if vacant.len() == list.len() {
            // Frees the memory of a peak.
            *entries = Entries::default();
        }
        None
    }
}

/// Whether bytes or the end of the connection can be read. If neither can, their arrival wakes the
/// waker.
fn is_readable(io: &mut Tcp, waker: &Arc<SlotWaker>) -> bool {
    let waker = Waker::from(Arc::clone(waker));
    // Poll without tokio's coop budget: a spurious Pending would lose the socket's readiness.
    let asked = pin!(unconstrained(poll_fn(|context| io.poll_readable(context))));
    asked.poll(&mut Context::from_waker(&waker)).is_ready()
}

/// Reads the bytes that have arrived; zero bytes are the end of the connection. Pending if nothing
/// has arrived: its arrival then wakes the waker.
fn poll_read(io: &mut Tcp, waker: &Arc<SlotWaker>) -> Poll<io::Result<Bytes>> {
    let waker = Waker::from(Arc::clone(waker));
    let mut space = [MaybeUninit::uninit(); FIRST_BYTES_MAX];
    let mut buffer = ReadBuf::uninit(&mut space);
    // Poll without tokio's coop budget, as above.
    let read = pin!(unconstrained(poll_fn(|context| {
        Pin::new(&mut *io).poll_read(context, &mut buffer)
    })));
    ready!(read.poll(&mut Context::from_waker(&waker)))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
}

/// Serves one request after another in one future. The future of a request takes kilobytes; as a
/// part of this one it is neither allocated nor moved for each request.
struct Worker {
    serving: Pin<Box<dyn Future<Output = ()>>>,
    state: Rc<Cell<WorkerState>>,
}

enum WorkerState {
    /// The worker has completed its request.
    Free,
    /// The request to begin with.
    Next(Tcp, Bytes, ConnectionPermits),
    Serving,
    /// The worker is a task of its own, and ends with its request.
    Detached,
}

impl Worker {
    fn new<S: Future<Output = ()>>(
        serve: impl Fn(Tcp, Bytes, ConnectionPermits) -> S + 'static,
    ) -> Self {
        let state = Rc::new(Cell::new(WorkerState::Free));
        let own = Rc::clone(&state);
        let serving = Box::pin(async move {
            loop {
                let (io, request, permits) = poll_fn(|_| match own.replace(WorkerState::Serving) {
                    WorkerState::Next(io, request, permits) => Poll::Ready((io, request, permits)),
                    other => {
                        own.set(other);
                        Poll::Pending
                    }
                })
                .await;
                serve(io, request, permits).await;
                if matches!(own.replace(WorkerState::Free), WorkerState::Detached) {
                    return;
                }
            }
        });
        Self { serving, state }
    }

    /// Serves a request at once, or in a task if the request has to wait. Returns the worker unless
    /// it has become that task.
    fn serve(mut self, io: Tcp, request: Bytes, permits: ConnectionPermits) -> Option<Self> {
        self.state.set(WorkerState::Next(io, request, permits));
        let mut context = Context::from_waker(Waker::noop());
        // A request that panics ends its own connection alone, as in a task.
        let polled = catch_unwind(AssertUnwindSafe(|| self.serving.as_mut().poll(&mut context)));
        if polled.is_err() {
            return None;
        }
        match self.state.replace(WorkerState::Detached) {
            WorkerState::Free => Some(self),
            _ => {
                spawn_local(self.serving);
                None
            }
        }
    }
}

/// The time between two sweeps for sockets that have been idle for the keep-alive time. A socket
/// may be closed that much later.
fn sweep_pause(keep_alive: Duration) -> Duration {
    (keep_alive / 16).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// Bytes of the first read: about twice the request of a browser.
pub(super) const FIRST_BYTES_MAX: usize = 2 * 1024;
/// Requests that are served before other tasks of the shard run.
const REQUESTS_IN_A_ROW: usize = 16;
/// Sockets that are looked at, and perhaps closed, before other tasks of the shard run.
const CHECKS_IN_A_ROW: usize = 64;
