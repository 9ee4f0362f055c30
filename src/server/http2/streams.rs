//! The streams of one HTTP/2 connection. Each has a task, which ends if the client stops reading
//! the answer. Streams that the client resets are counted.
//!
//! A request that is sent and then reset costs its client little, and the hub most of a request
//! (CVE-2023-44487, "rapid reset"). h2 limits the resets of streams that it has not handed to hyper
//! yet. The count here includes all resets.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::{task::spawn_local, time::Instant};

use super::frames::PERIOD;
use crate::{
    server::write_progress::{Stall, WriteProgress},
    telemetry::Metrics,
};

/// All streams of a connection (RFC 9113, section 5).
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Streams under way.
    live: Cell<u32>,
    /// Streams since the connection was opened.
    opened: Cell<u64>,
    /// Streams that the client has reset in the current period.
    resets: Cell<u32>,
    period_began: Cell<Option<Instant>>,
    /// The stream whose task hyper gives to the executor next.
    next: RefCell<Option<Rc<Stream>>>,
    /// Wakes the task of the connection.
    watcher: RefCell<Option<Waker>>,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// How much of the answer hyper has passed on to h2.
    pub(super) progress: WriteProgress,
    /// Whether the whole answer has been given to hyper.
    pub(super) is_answered: Cell<bool>,
}

/// How the task of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// The whole answer was given to hyper.
    Answered,
    /// The hub reset the stream: the client did not read.
    Stalled,
    /// The client reset the stream, or the connection ended.
    Reset,
}

impl Streams {
    /// Begins a stream. The next task that hyper gives to the executor is the task of this stream.
    pub(super) fn begin(&self) -> Rc<Stream> {
        let (progress, is_answered) = (WriteProgress::new(), Cell::new(false));
        let stream = Rc::new(Stream { progress, is_answered });
        *self.next.borrow_mut() = Some(Rc::clone(&stream));
        self.opened.set(self.opened.get() + 1);
        stream
    }

    /// How many streams there have been, if none of them is under way now.
    pub(super) fn idle(&self) -> Option<u64> {
        (self.live.get() == 0).then(|| self.opened.get())
    }

    /// How many streams there have been.
    pub(super) fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Streams that the client has reset in the current period.
    pub(super) fn resets(&self) -> u32 {
        self.resets.get()
    }

    /// Wakes this task when the client resets a stream, and when the last stream ends.
    pub(super) fn watch(&self, context: &Context<'_>) {
        let mut watcher = self.watcher.borrow_mut();
        if !watcher.as_ref().is_some_and(|watcher| watcher.will_wake(context.waker())) {
            *watcher = Some(context.waker().clone());
        }
    }

    fn end(&self, end: StreamEnd) {
        self.live.set(self.live.get() - 1);
        if end == StreamEnd::Reset {
            let now = Instant::now();
            if self.period_began.get().is_none_or(|began| now - began >= PERIOD) {
                self.period_began.set(Some(now));
                self.resets.set(0);
            }
            self.resets.set(self.resets.get().saturating_add(1));
        }
        if let Some(watcher) = self.watcher.borrow().as_ref()
            && (end == StreamEnd::Reset || self.live.get() == 0)
        {
            watcher.wake_by_ref();
        }
    }
}

/// hyper's executor: runs the tasks of a connection on the shard's thread.
#[derive(Clone)]
pub(super) struct OnShard {
    pub(super) streams: Rc<Streams>,
    /// How long the client may accept no byte of an answer before its stream is reset.
    pub(super) write_stall: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for OnShard {
    fn execute(&self, task: F) {
        let Some(stream) = self.streams.next.borrow_mut().take() else {
            spawn_local(task);
            return;
        };
        self.streams.live.set(self.streams.live.get() + 1);
        let guard = EndGuard { streams: Rc::clone(&self.streams), stream, is_stalled: false };
        let stall = Stall::new(self.write_stall);
        spawn_local(StreamTask { task, stall, guard, metrics: self.metrics.clone() });
    }
}

pin_project! {
    /// The task of a stream. It ends early if the client does not read the answer.
    struct StreamTask<F> {
        #[pin]
        task: F,
        stall: Stall,
        guard: EndGuard,
        metrics: Arc<Metrics>,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.task.poll(context).is_ready() {
            return Poll::Ready(());
        }
        let stalled = this.stall.poll(this.guard.stream.progress.pending(), context);
        if stalled.is_ready() {
            this.guard.is_stalled = true;
            this.metrics.answers_stalled.inc();
        }
        // The runtime drops a task that is ready. That resets the stream, and frees h2's memory of
        // it.
        stalled
    }
}

/// Counts a stream as ended when its task is dropped.
struct EndGuard {
    streams: Rc<Streams>,
    stream: Rc<Stream>,
    is_stalled: bool,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.streams.end(match self.is_stalled {
            true => StreamEnd::Stalled,
            false if self.stream.is_answered.get() => StreamEnd::Answered,
            false => StreamEnd::Reset,
        });
    }
}
