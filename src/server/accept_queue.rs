//! Accepts from a listener on a shard's thread. Accepted sockets are not registered with the tokio
//! runtime yet.

use std::{
    io,
    net::{self, SocketAddr},
};

use mio::net::TcpListener;
use tokio::io::{Interest, unix::AsyncFd};

use crate::actors::{SocketAddrs, Tcp};

/// A listener watched by the shard's runtime.
#[derive(Debug)]
pub(super) struct AcceptQueue {
    listener: AsyncFd<TcpListener>,
    /// The local address of all its connections; `None` if it listens on the unspecified address.
    local: Option<SocketAddr>,
}

impl AcceptQueue {
    /// Takes a listener that never blocks. Called within the shard's runtime.
    pub(super) fn new(listener: net::TcpListener) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let listener = TcpListener::from_std(listener);
        #[expect(deprecated, reason = "the other way is unsafe; a listener owns its descriptor")]
        let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
        Ok(Self { listener, local: (!local.ip().is_unspecified()).then_some(local) })
    }

    /// Waits for the next connection. Connections that arrive together cost one wake-up.
    pub(super) async fn accept(&self) -> io::Result<Tcp> {
        self.listener.async_io(Interest::READABLE, |listener| self.take(listener)).await
    }

    /// Accepts a connection without waiting; `WouldBlock` if none is queued, and then the next
    /// [`accept`](Self::accept) waits for one. At the file limit the kernel fails `accept` even if
    /// the queue is empty; only this call, made once a descriptor is free, finds that out.
    pub(super) fn accept_now(&self) -> io::Result<Tcp> {
        self.listener.try_io(Interest::READABLE, |listener| self.take(listener))
    }

    fn take(&self, listener: &TcpListener) -> io::Result<Tcp> {
        // mio's is one call, which makes the socket non-blocking too.
        let (io, peer) = listener.accept()?;
        let io = net::TcpStream::from(io);
        let local = match self.local {
            Some(local) => local,
            None => io.local_addr()?,
        };
        if cfg!(not(target_os = "linux")) {
            // On Linux it is the listener's; elsewhere a failure costs only latency.
            let _ = io.set_nodelay(true);
        }
        Ok(Tcp::unregistered(io, SocketAddrs { local, peer }))
    }
}
