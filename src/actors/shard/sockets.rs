//! The sockets of a shard's streams, and the poller that watches them.
//!
//! A socket registered with tokio costs an allocation of 256 bytes and a waker; here it costs no
//! memory in user space, and one system call returns all ready sockets. Registration is
//! edge-triggered in both directions: a socket is reported when input arrives, when the peer
//! closes, and when it becomes writable after a write would have blocked.

use std::{
    io,
    os::fd::AsRawFd,
    task::{Context, Poll},
    time::Duration,
};

use mio::{Events, Interest, Token, unix::SourceFd};
use tokio::io::unix::AsyncFd;

use crate::actors::{peer::StreamSocket, slot_key::SlotKey};

/// The poller, whose file descriptor is registered with the shard's tokio runtime.
#[derive(Debug)]
pub(super) struct Sockets {
    poll: AsyncFd<mio::Poll>,
    events: Events,
}

/// A socket that is ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// The token of its slot ([`SlotKey::token`]).
    pub(super) token: usize,
    /// Readable, or closed by the peer.
    pub(super) input: bool,
    /// Writable again.
    pub(super) room: bool,
}

impl Sockets {
    /// A poller of no sockets. Called within the shard's runtime.
    pub(super) fn new() -> io::Result<Self> {
        #[expect(deprecated, reason = "the other way is unsafe; a poller does own its descriptor")]
        let poll = AsyncFd::with_interest(mio::Poll::new()?, tokio::io::Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(READY_MAX) })
    }

    /// Registers a socket until it is closed. If it is ready already, that is reported too.
    pub(super) fn watch(&self, socket: &StreamSocket, key: SlotKey) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let fd = socket.as_raw_fd();
        let registry = self.poll.get_ref().registry();
        registry.register(&mut SourceFd(&fd), Token(key.token()), interest)
    }

    /// Sockets that have become ready since the last call, without waiting; at most
    /// [`READY_MAX`], and true if there may be more.
    pub(super) fn ready(&mut self, ready: &mut Vec<Ready>) -> io::Result<bool> {
        match self.poll.get_mut().poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            result => result?,
        }
        ready.extend(self.events.iter().map(|event| Ready {
            token: event.token().0,
            input: event.is_readable()
                || event.is_read_closed()
                || event.is_write_closed()
                || event.is_error(),
            room: event.is_writable(),
        }));
        Ok(ready.len() >= READY_MAX)
    }

    /// Whether a socket may have become ready since the last call; then call
    /// [`ready`](Self::ready). If none has, `context` is woken when one does. This makes no system
    /// call, since the runtime watches the poller.
    pub(super) fn are_ready(&self, context: &mut Context<'_>) -> bool {
        match self.poll.poll_read_ready(context) {
            Poll::Pending => false,
            // Readiness is cleared before `ready` is called, so that a socket that becomes ready
            // later is reported again.
            Poll::Ready(Ok(mut ready_guard)) => {
                ready_guard.clear_ready();
                true
            }
            // The runtime is shutting down; `ready` still finds the sockets.
            Poll::Ready(Err(_)) => true,
        }
    }
}

/// Sockets served in one pass.
const READY_MAX: usize = 256;
