//! The requests of one HTTP/2 connection. Each has a task, which ends if its client stops reading
//! the answer; requests that the client resets are counted.
//!
//! A request that is sent and reset costs its client little and the hub most of a request
//! (CVE-2023-44487, "rapid reset"). h2 limits the resets of requests that it has not handed out
//! yet; this limits all resets.

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
    /// Streams ever begun.
    opened: Cell<u64>,
    /// Streams that the client reset in the current period.
    resets: Cell<u32>,
    period_began: Cell<Option<Instant>>,
    /// The stream whose task is about to start.
    next: RefCell<Option<Rc<Stream>>>,
    /// The task to wake when something has changed.
    watcher: RefCell<Option<Waker>>,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// How much of the answer the client has taken.
    pub(super) progress: WriteProgress,
    /// The whole answer has been given to h2.
    pub(super) is_done: Cell<bool>,
}

impl Streams {
    /// Begins a stream. The next task that hyper gives to the executor is the task of this stream.
    pub(super) fn begin(&self) -> Rc<Stream> {
        let stream = Rc::new(Stream { progress: WriteProgress::new(), is_done: Cell::new(false) });
        *self.next.borrow_mut() = Some(Rc::clone(&stream));
        self.opened.set(self.opened.get() + 1);
        stream
    }

    /// How many streams there have been, if none is under way now.
    pub(super) fn idle(&self) -> Option<u64> {
        (self.live.get() == 0).then(|| self.opened.get())
    }

    /// How many streams there have been.
    pub(super) fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Streams that the client reset in the current period.
    pub(super) fn resets(&self) -> u32 {
        self.resets.get()
    }

    /// Registers the task to wake when a stream ends.
    pub(super) fn watch(&self, context: &Context<'_>) {
        let mut watcher = self.watcher.borrow_mut();
        if !watcher.as_ref().is_some_and(|watcher| watcher.will_wake(context.waker())) {
            *watcher = Some(context.waker().clone());
        }
    }

    fn end(&self, was_given_up: bool) {
        self.live.set(self.live.get() - 1);
        if was_given_up {
            let now = Instant::now();
            if self.period_began.get().is_none_or(|began| now - began >= PERIOD) {
                self.period_began.set(Some(now));
                self.resets.set(0);
            }
            self.resets.set(self.resets.get().saturating_add(1));
        }
        if let Some(watcher) = self.watcher.borrow().as_ref()
            && (was_given_up || self.live.get() == 0)
        {
            watcher.wake_by_ref();
        }
    }
}

/// Runs the tasks of a connection on the shard's thread.
#[derive(Clone)]
pub(super) struct OnShard {
    pub(super) streams: Rc<Streams>,
    /// How long a client may accept no byte of an answer.
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
        let ending = Ending { streams: Rc::clone(&self.streams), stream, by_us: false };
        let stall = Stall::new(self.write_stall);
        spawn_local(StreamTask { task, stall, ending, metrics: self.metrics.clone() });
    }
}

pin_project! {
    /// The task of a stream, until it ends or is stalled.
    struct StreamTask<F> {
        #[pin]
        task: F,
        stall: Stall,
        ending: Ending,
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
        let stalled = this.stall.poll(this.ending.stream.progress.pending(), context);
        if stalled.is_ready() {
            this.ending.by_us = true;
            this.metrics.answers_stalled.inc();
        }
        // Dropping it resets the stream and frees h2's memory of it.
        stalled
    }
}

/// Counts a stream as ended when its task is dropped.
struct Ending {
    streams: Rc<Streams>,
    stream: Rc<Stream>,
    by_us: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.streams.end(!self.by_us && !self.stream.is_done.get());
    }
}
