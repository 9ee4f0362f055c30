//! The handle of a read of the log on disk, for the reader that waits for it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::oneshot;

/// A read that waits or is under way.
#[derive(Debug)]
pub(crate) struct PendingRead<T> {
    reply: oneshot::Receiver<Result<T, ReadFailure>>,
    is_over: bool,
    cancelled: Arc<AtomicUsize>,
}

/// Why a reader does not get its next piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFailure {
    /// Events after its cursor have been evicted.
    FellOff,
    /// The disk failed, or the log on it is damaged.
    Unreadable,
    /// For a while there was no file or no memory left for the read.
    Busy,
    /// The log is closed.
    Closed,
}

/// Where the result of a read is sent.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ReadFailure>>;

impl<T> PendingRead<T> {
    /// A read that counts as one of `cancelled` if it is dropped.
    pub(super) fn new(cancelled: &Arc<AtomicUsize>) -> (Reply<T>, Self) {
        let (sender, reply) = oneshot::channel();
        (sender, Self { reply, is_over: false, cancelled: Arc::clone(cancelled) })
    }
}

impl<T> Future for PendingRead<T> {
    type Output = Result<T, ReadFailure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.reply).poll(context);
        self.is_over = result.is_ready();
        result.map(|result| result.unwrap_or(Err(ReadFailure::Closed)))
    }
}

impl<T> Drop for PendingRead<T> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}
