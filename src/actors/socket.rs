//! A client's socket as it goes between the HTTP server and a shard: plain, or under TLS.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::tcp::{SocketAddrs, Tcp};

/// A client's socket.
pub enum Socket {
    /// What is written is what goes out.
    Plain(Tcp),
    /// Encrypted; its handshake is over.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The addresses of its ends.
    pub fn addrs(&self) -> io::Result<SocketAddrs> {
        match self {
            Self::Plain(io) => Ok(io.addrs()),
            Self::Tls(io) => {
                let (io, _) = io.get_ref();
                Ok(SocketAddrs { local: io.local_addr()?, peer: io.peer_addr()? })
            }
        }
    }

    /// Waits until there may be something to read, or the end. Under TLS it does not wait:
    /// something may have come and be decrypted already.
    pub async fn readable(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(io) => io.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }

    /// Whether what goes over it is encrypted.
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl From<Tcp> for Socket {
    fn from(io: Tcp) -> Self {
        Self::Plain(io)
    }
}

impl From<TlsStream<TcpStream>> for Socket {
    fn from(io: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(io))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(io) => f.debug_tuple("Plain").field(io).finish(),
            Self::Tls(io) => f.debug_tuple("Tls").field(io.get_ref().0).finish(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Self::Tls(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(context),
            Self::Tls(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(context),
            Self::Tls(io) => Pin::new(io).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(context, slices),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(context, slices),
        }
    }
}
