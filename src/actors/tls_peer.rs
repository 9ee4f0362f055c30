//! The other end of a connection under TLS: encrypts what it is given, and keeps no more than one
//! record's worth of ciphertext that the kernel does not take.
//!
//! Neither side's buffers outlive what is in them: rustls frees each piece of ciphertext once it is
//! written, and what comes in is taken out at once.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{
    peer::{DROPPED_BYTES_MAX, Input, Peer, READ_AHEAD_BYTES_MAX, SlotWaker},
    socket::Socket,
};

/// A connection under TLS.
pub(crate) struct TlsPeer {
    /// `None` once it has been given back.
    io: Option<Box<TlsStream<TcpStream>>>,
    /// Asked for at once: the kernel no longer says it once the connection was reset or timed out.
    address: Option<SocketAddr>,
    incoming: Incoming,
}

/// What becomes of what comes in.
enum Incoming {
    /// Dropped, and counted: a stream's client sends nothing.
    Dropped(usize),
    /// Kept as the beginning of a next request; a waiting poll's.
    Kept { read_ahead: Vec<u8>, reading: bool },
}

impl TlsPeer {
    /// The peer of a stream.
    pub(crate) fn stream(io: Box<TlsStream<TcpStream>>) -> Self {
        Self::new(io, Incoming::Dropped(0))
    }

    /// The peer of a waiting poll; `read_ahead` was read already.
    pub(crate) fn poll(io: Box<TlsStream<TcpStream>>, read_ahead: &[u8]) -> Self {
        Self::new(io, Incoming::Kept { read_ahead: read_ahead.to_vec(), reading: true })
    }

    fn new(io: Box<TlsStream<TcpStream>>, incoming: Incoming) -> Self {
        let address = io.get_ref().0.peer_addr().ok();
        Self { io: Some(io), address, incoming }
    }

    fn parts(&mut self) -> io::Result<(&mut TcpStream, &mut ServerConnection)> {
        self.io.as_mut().map(|io| io.get_mut()).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes what is encrypted; `WouldBlock` when the kernel does not take it all; then the waker
    /// is woken when there is room.
    fn flush(&mut self, waker: &Arc<SlotWaker>) -> io::Result<()> {
        let (tcp, tls) = self.parts()?;
        while tls.wants_write() {
            match tls.write_tls(&mut Ready(tcp)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let waker = Waker::from(Arc::clone(waker));
                    match tcp.poll_write_ready(&mut Context::from_waker(&waker)) {
                        Poll::Pending => return Err(error),
                        Poll::Ready(ready) => ready?,
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes one read's worth in and decrypts it.
    fn read(&mut self, waker: &Arc<SlotWaker>) -> io::Result<Received> {
        let Some(io) = &mut self.io else { return Ok(Received::Eof) };
        let (tcp, tls) = io.get_mut();
        let waker = Waker::from(Arc::clone(waker));
        match tcp.poll_read_ready(&mut Context::from_waker(&waker)) {
            Poll::Pending => return Ok(Received::Pending),
            Poll::Ready(ready) => ready?,
        }
        let bytes = match tls.read_tls(&mut Ready(tcp)) {
            Ok(0) => return Ok(Received::Eof),
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(Received::Progress);
            }
            Err(error) => return Err(error),
        };
        let state = tls
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if state.peer_has_closed() {
            return Ok(Received::Eof);
        }
        let mut reader = tls.reader();
        match &mut self.incoming {
            // Counted as they came: records without content are input too.
            Incoming::Dropped(dropped) => {
                *dropped += bytes;
                while let Ok(chunk) = reader.fill_buf() {
                    let length = chunk.len();
                    if length == 0 {
                        break;
                    }
                    reader.consume(length);
                }
            }
            Incoming::Kept { read_ahead, .. } => {
                while let Ok(chunk) = reader.fill_buf() {
                    let length = chunk.len();
                    if length == 0 {
                        break;
                    }
                    read_ahead.extend_from_slice(chunk);
                    reader.consume(length);
                }
            }
        }
        Ok(Received::Progress)
    }
}

impl Peer for TlsPeer {
    fn try_write(&mut self, bytes: &Bytes, waker: &Arc<SlotWaker>) -> io::Result<usize> {
        // Flush the previous record before encrypting the next, so that at most one is buffered.
        self.flush(waker)?;
        let (_, tls) = self.parts()?;
        let taken = tls.writer().write(&bytes[..bytes.len().min(RECORD_BYTES_MAX)])?;
        match self.flush(waker) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            // The rest is sent when there is room, which wakes the waker.
            _ => Ok(taken),
        }
    }

    fn poll_input(&mut self, waker: &Arc<SlotWaker>) -> Input {
        loop {
            match self.flush(waker) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Input::of_error(&error);
                }
                _ => {}
            }
            match &self.incoming {
                Incoming::Dropped(dropped) if *dropped > usize::from(DROPPED_BYTES_MAX) => {
                    return Input::TooMuch;
                }
                // The deadline ends the wait in any case, so stop looking.
                Incoming::Kept { reading: false, .. } => return Input::Quiet,
                _ => {}
            }
            match self.read(waker) {
                Ok(Received::Pending) => return Input::Quiet,
                Ok(Received::Progress) => {}
                Ok(Received::Eof) => return Input::Closed,
                Err(error) => return Input::of_error(&error),
            }
            if let Incoming::Kept { read_ahead, reading } = &mut self.incoming {
                *reading = read_ahead.len() < READ_AHEAD_BYTES_MAX;
            }
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// A record that is encrypted and not yet out, and the close_notify.
    fn must_flush_on_close(&self) -> bool {
        true
    }

    fn into_socket(mut self: Box<Self>) -> Option<(Socket, Bytes)> {
        match std::mem::replace(&mut self.incoming, Incoming::Dropped(0)) {
            Incoming::Dropped(_) => None,
            Incoming::Kept { read_ahead, .. } => {
                Some((Socket::Tls(self.io.take()?), read_ahead.into()))
            }
        }
    }
}

/// Announces the end, as far as the kernel takes it: without that a client cannot tell the
/// end of a stream from a cut by someone on the way.
impl Drop for TlsPeer {
    fn drop(&mut self) {
        if let Ok((tcp, tls)) = self.parts() {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut Ready(tcp)).is_ok_and(|n| n > 0) {}
        }
    }
}

impl fmt::Debug for TlsPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPeer").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// Result of one read.
enum Received {
    /// Nothing has come; the waker will be woken.
    Pending,
    /// More may have come: read again.
    Progress,
    Eof,
}

/// A socket that is read and written as far as it goes without waiting.
struct Ready<'a>(&'a TcpStream);

impl Read for Ready<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes encrypted at a time: what one record holds (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
