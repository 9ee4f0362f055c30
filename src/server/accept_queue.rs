//! A shard's end of a listener: accepted sockets are not registered with the runtime yet.

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
    /// The address that all its connections come in at, unless it listens on all there are.
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

    /// The next connection. Those that come together cost one wake-up.
    pub(super) async fn accept(&self) -> io::Result<Tcp> {
        self.listener.async_io(Interest::READABLE, |listener| self.take(listener)).await
    }

    /// A connection that waits; `WouldBlock` if none does, and then the next
    /// [`accept`](Self::accept) waits for one. Without a file for it the kernel says so even if no
    /// connection waits, and only this call finds out.
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
