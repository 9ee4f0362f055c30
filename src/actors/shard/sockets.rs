//! The sockets of a shard's streams, and the poller that watches them.
//!
//! A socket under tokio costs an allocation of 256 bytes and a waker; here it costs nothing in
//! user space, and one call serves all that are ready. Registration is edge-triggered for both
//! directions: a socket is reported when input, the end, or room after a refused write comes.

use std::{
    io,
    os::fd::AsRawFd,
    task::{Context, Poll},
    time::Duration,
};

use mio::{Events, Interest, Token, unix::SourceFd};
use tokio::io::unix::AsyncFd;

use crate::actors::{peer::StreamSocket, slot_key::SlotKey};

/// The poller. It is itself watched by the shard's runtime.
#[derive(Debug)]
pub(super) struct Sockets {
    poll: AsyncFd<mio::Poll>,
    events: Events,
}

/// A socket that is ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// Whose, as [`SlotKey::token`] gives it.
    pub(super) token: usize,
    /// Something came in, or the end.
    pub(super) input: bool,
    /// It takes bytes again.
    pub(super) room: bool,
}

impl Sockets {
    /// A poller of no sockets. Called within the shard's runtime.
    pub(super) fn new() -> io::Result<Self> {
        #[expect(deprecated, reason = "the other way is unsafe; a poller does own its descriptor")]
        let poll = AsyncFd::with_interest(mio::Poll::new()?, tokio::io::Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(READY_MAX) })
    }

    /// Watches a socket until it is closed; what is ready now is reported too.
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

    /// Whether a socket may have become ready since the last call; then look at all
    /// ([`ready`](Self::ready)). If none has, `context` is woken when one does. It costs no system
    /// call: the runtime watches the poller.
    pub(super) fn are_ready(&self, context: &mut Context<'_>) -> bool {
        match self.poll.poll_read_ready(context) {
            Poll::Pending => false,
            // What becomes ready after this, and so after the look that follows it, is reported anew.
            Poll::Ready(Ok(mut ready_guard)) => {
                ready_guard.clear_ready();
                true
            }
            // The runtime ends; what it does not tell, the look finds.
            Poll::Ready(Err(_)) => true,
        }
    }
}

/// Sockets served in one pass.
const READY_MAX: usize = 256;
