//! How many bytes the HTTP server has written, and whether the client reads them.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// The write progress of one socket, or of one HTTP/2 stream. The code that writes records it, and
/// the task that detects stalls reads it.
#[derive(Debug)]
pub(super) struct WriteProgress {
    flushed: Cell<bool>,
    taken: Cell<u64>,
}

impl WriteProgress {
    pub(super) fn new() -> Self {
        Self { flushed: Cell::new(true), taken: Cell::new(0) }
    }

    /// A write begins: hyper may have unwritten bytes in its buffer from now on.
    pub(super) fn begin(&self) {
        self.flushed.set(false);
    }

    /// The kernel, or for a stream h2, has accepted this many bytes.
    pub(super) fn on_written(&self, bytes: usize) {
        self.taken.set(self.taken.get() + bytes as u64);
    }

    /// Records whether hyper's buffer is empty.
    pub(super) fn flush(&self, done: bool) {
        self.flushed.set(done);
    }

    /// Bytes that were accepted so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// The number of bytes accepted so far, if more wait in hyper's buffer; else `None`.
    pub(super) fn pending(&self) -> Option<u64> {
        (!self.flushed.get()).then(|| self.taken.get())
    }

    /// Whether hyper's write buffer is empty: hyper flushes the socket only then.
    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.get()
    }
}

/// Detects that something waits without progress, such as a write. The caller measures the progress
/// as any number that changes with it. There is a timer only while something waits.
#[derive(Debug)]
pub(super) struct Stall {
    time_max: Duration,
    /// The progress when the timer was started.
    so_far: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(super) fn new(time_max: Duration) -> Self {
        Self { time_max, so_far: 0, timer: None }
    }

    /// Ready when `pending` has had the same value for the whole time. `pending` is the progress of
    /// what waits, such as [`WriteProgress::pending`], and `None` while nothing waits.
    pub(super) fn poll(&mut self, pending: Option<u64>, context: &mut Context<'_>) -> Poll<()> {
        let Some(so_far) = pending else {
            self.timer = None;
            return Poll::Pending;
        };
        if self.timer.is_none() || so_far != self.so_far {
            self.so_far = so_far;
            self.timer = Some(Box::pin(tokio::time::sleep_until(Instant::now() + self.time_max)));
        }
        let timer = self.timer.as_mut().expect("it was set");
        timer.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_of_which_nothing_is_taken_is_stalled() {
        let wait = Duration::from_secs(30);
        let (progress, mut stall) = (WriteProgress::new(), Stall::new(wait));
        let mut stalled = async || {
            let polled = poll_fn(|context| stall.poll(progress.pending(), context));
            tokio::time::timeout(Duration::from_secs(29), polled).await.is_ok()
        };
        assert!(!stalled().await && !stalled().await, "nothing waits");
        progress.begin();
        assert!(!stalled().await);
        progress.on_written(1);
        assert!(!stalled().await, "it reads slowly");
        assert!(stalled().await);
        progress.flush(true);
        assert!(!stalled().await && !stalled().await);
    }
}
