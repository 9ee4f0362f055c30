//! Accepts connections from a listener on a shard's thread. The sockets are not registered with the
//! tokio runtime yet: most are handed off to the shard after their first request.

use std::{
    io,
    net::{self, SocketAddr},
};

use mio::net::TcpListener;
use tokio::io::{Interest, unix::AsyncFd};

use crate::actors::{SocketAddrs, Tcp};

/// A listener that is registered with the shard's runtime.
#[derive(Debug)]
pub(super) struct AcceptQueue {
    listener: AsyncFd<TcpListener>,
    /// The local address of all connections; `None` if the listener is bound to the unspecified
    /// address: then each connection has its own.
    local: Option<SocketAddr>,
}

impl AcceptQueue {
    /// Registers a non-blocking listener. Must be called within the shard's runtime.
    pub(super) fn new(listener: net::TcpListener) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let listener = TcpListener::from_std(listener);
        #[expect(deprecated, reason = "the other way is unsafe; a listener owns its descriptor")]
        let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
        Ok(Self { listener, local: (!local.ip().is_unspecified()).then_some(local) })
    }

    /// Waits for the next connection. Connections that arrive together cost only one wake-up.
    pub(super) async fn accept(&self) -> io::Result<Tcp> {
        self.listener.async_io(Interest::READABLE, |listener| self.take(listener)).await
    }

    /// Accepts a connection without waiting. Returns `WouldBlock` if the queue is empty; the next
    /// [`accept`](Self::accept) then waits for a connection. At the file limit of the process the
    /// kernel fails every `accept`, even on an empty queue. So once a descriptor is free, only this
    /// call shows whether the queue has a connection.
    pub(super) fn accept_now(&self) -> io::Result<Tcp> {
        self.listener.try_io(Interest::READABLE, |listener| self.take(listener))
    }

    fn take(&self, listener: &TcpListener) -> io::Result<Tcp> {
        // mio accepts and makes the socket non-blocking in one system call (`accept4`).
        let (io, peer) = listener.accept()?;
        let io = net::TcpStream::from(io);
        let local = match self.local {
            Some(local) => local,
            None => io.local_addr()?,
        };
        if cfg!(not(target_os = "linux")) {
            // On Linux the socket inherits the option from its listener. Elsewhere a failure costs
            // only latency.
            let _ = io.set_nodelay(true);
        }
        Ok(Tcp::unregistered(io, SocketAddrs { local, peer }))
    }
}
