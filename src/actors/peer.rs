//! The peer of a connection: takes bytes without blocking, and wakes its slot when it takes more or
//! has closed.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::Notify};

use super::{
    slot_key::SlotKey,
    socket::Socket,
    tcp::{SocketAddrs, Tcp},
    wake_flag::WakeFlag,
};
use crate::model::PollReply;

/// What a connection writes to.
pub trait Peer: fmt::Debug {
    /// Takes as much of `bytes` as it can now. `WouldBlock` promises that `waker` will be woken
    /// when it takes more.
    fn try_write(&mut self, bytes: &Bytes, waker: &Arc<SlotWaker>) -> io::Result<usize>;

    /// Looks at what has come in; unless it is over, promises that `waker` will be woken when
    /// something does.
    fn poll_input(&mut self, waker: &Arc<SlotWaker>) -> Input;

    /// Receives a poll's answer as a value. Peers that are sockets get bytes instead, rendered with
    /// their [`PollTicket`](super::PollTicket).
    fn answer(&mut self, _reply: PollReply) {}

    /// The other side's address, where there is one.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// Whether closing sends bytes (TLS close_notify), so that the socket must be flushed first.
    fn must_flush_on_close(&self) -> bool {
        false
    }

    /// The socket and the bytes read from it, if it can carry further requests.
    fn into_socket(self: Box<Self>) -> Option<(Socket, Bytes)> {
        None
    }
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Nothing that matters.
    Quiet,
    /// The end.
    Closed,
    /// More than it may send.
    TooMuch,
    /// The kernel has given the connection up (`TCP_USER_TIMEOUT`, keep-alive probes).
    TimedOut,
}

impl Input {
    /// What an error of the socket means.
    pub(crate) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            // After a timeout the kernel reports the error of the way (ICMP) instead, if one came.
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::TimedOut,
            _ => Self::Closed,
        }
    }
}

/// A slot's end of its peer. A stream's socket is in the slot itself and watched by the shard's
/// poller; any other peer is boxed, and wakes its slot.
#[derive(Debug)]
pub(crate) enum SlotPeer {
    /// A stream's socket.
    Socket(StreamSocket),
    /// Any other peer.
    Other(Box<WakingPeer>),
}

/// A peer with the waker of its slot.
#[derive(Debug)]
pub(crate) struct WakingPeer {
    peer: Box<dyn Peer>,
    waker: Arc<SlotWaker>,
}

impl SlotPeer {
    /// A peer that wakes its slot by `waker`.
    pub(crate) fn other(peer: Box<dyn Peer>, waker: Arc<SlotWaker>) -> Self {
        Self::Other(Box::new(WakingPeer { peer, waker }))
    }

    /// Writes until all is taken or the peer takes no more; `taken` counts.
    pub(crate) fn write_all(&mut self, bytes: &Bytes, taken: &mut usize) -> io::Result<()> {
        while *taken < bytes.len() {
            let result = match self {
                Self::Socket(socket) => socket.io.write(&bytes[*taken..]),
                Self::Other(other) if *taken == 0 => other.peer.try_write(bytes, &other.waker),
                Self::Other(other) => other.peer.try_write(&bytes.slice(*taken..), &other.waker),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => *taken += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives it the answer of a poll as a value.
    pub(crate) fn answer(&mut self, reply: PollReply) {
        match self {
            Self::Socket(_) => {}
            Self::Other(other) => other.peer.answer(reply),
        }
    }

    /// Looks at what has come in.
    pub(crate) fn poll_input(&mut self) -> Input {
        match self {
            Self::Socket(socket) => socket.poll_input(),
            Self::Other(other) => other.peer.poll_input(&other.waker),
        }
    }

    /// Whether every wake-up has to check it for input. For sockets the poller reports input.
    pub(crate) fn wakes_for_input(&self) -> bool {
        matches!(self, Self::Other(_))
    }

    /// Called before the slot is looked at, so that what happens from now on wakes it again.
    pub(crate) fn rearm(&self) {
        if let Self::Other(other) = self {
            other.waker.rearm();
        }
    }

    /// The other side's address, where there is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(socket) => socket.address(),
            Self::Other(other) => other.peer.address(),
        }
    }

    /// Whether closing sends bytes (TLS close_notify), so that the socket must be flushed first.
    pub(crate) fn must_flush_on_close(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Other(other) => other.peer.must_flush_on_close(),
        }
    }

    /// The socket and the bytes read from it, if it can carry further requests.
    pub(crate) fn into_socket(self) -> Option<(Socket, Bytes)> {
        match self {
            Self::Socket(_) => None,
            Self::Other(other) => other.peer.into_socket(),
        }
    }
}

/// A stream's socket, which has left tokio. What comes in is dropped and counted.
#[derive(Debug)]
pub(crate) struct StreamSocket {
    io: std::net::TcpStream,
    dropped: u16,
    /// The peer's address, which the kernel no longer says once the connection was reset or timed
    /// out. An IPv6 address has no room in a slot.
    ipv4: Option<SocketAddrV4>,
}

impl StreamSocket {
    /// Takes a socket out of tokio, if it is there.
    pub(crate) fn new(io: Tcp) -> io::Result<Self> {
        let peer = io.addrs().peer;
        let ipv4 = match peer.ip().to_canonical() {
            IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, peer.port())),
            IpAddr::V6(_) => None,
        };
        Ok(Self { io: io.into_std()?, dropped: 0, ipv4 })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.ipv4.map(SocketAddr::V4).or_else(|| self.io.peer_addr().ok())
    }

    fn poll_input(&mut self) -> Input {
        let mut chunk = [0_u8; 512];
        loop {
            match self.io.read(&mut chunk) {
                Ok(0) => return Input::Closed,
                Ok(n) => {
                    self.dropped = self.dropped.saturating_add(n as u16);
                    if self.dropped > DROPPED_BYTES_MAX {
                        return Input::TooMuch;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Quiet,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Input::of_error(&error),
            }
        }
    }
}

impl AsRawFd for StreamSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

/// The socket of a waiting poll. It stays with tokio, since it goes back to the HTTP server after
/// its answer.
#[derive(Debug)]
pub(crate) struct PollSocket {
    io: TcpStream,
    addrs: SocketAddrs,
    /// Bytes of the next request.
    read_ahead: Vec<u8>,
    reading: bool,
}

impl PollSocket {
    /// Takes over `io`; `read_ahead` was read from it already. What comes in is the next request
    /// and is handed back with the socket.
    pub(crate) fn new(io: Tcp, read_ahead: &[u8]) -> io::Result<Self> {
        let addrs = io.addrs();
        Ok(Self { io: io.into_tokio()?, addrs, read_ahead: read_ahead.to_vec(), reading: true })
    }
}

impl Peer for PollSocket {
    fn try_write(&mut self, bytes: &Bytes, waker: &Arc<SlotWaker>) -> io::Result<usize> {
        loop {
            match self.io.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let waker = Waker::from(Arc::clone(waker));
            match self.io.poll_write_ready(&mut Context::from_waker(&waker)) {
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
                Poll::Ready(ready) => ready?,
            }
        }
    }

    fn poll_input(&mut self, waker: &Arc<SlotWaker>) -> Input {
        let mut chunk = [0_u8; 512];
        let waker = Waker::from(Arc::clone(waker));
        let mut context = Context::from_waker(&waker);
        while self.reading {
            match self.io.poll_read_ready(&mut context) {
                Poll::Pending => return Input::Quiet,
                Poll::Ready(Err(error)) => return Input::of_error(&error),
                Poll::Ready(Ok(())) => {}
            }
            match self.io.try_read(&mut chunk) {
                Ok(0) => return Input::Closed,
                Ok(n) => {
                    self.read_ahead.extend_from_slice(&chunk[..n]);
                    // The deadline ends the wait in any case, so stop looking.
                    self.reading = self.read_ahead.len() < READ_AHEAD_BYTES_MAX;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Input::of_error(&error),
            }
        }
        Input::Quiet
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.addrs.peer)
    }

    fn into_socket(self: Box<Self>) -> Option<(Socket, Bytes)> {
        Some((Socket::Plain(Tcp::registered(self.io, self.addrs)), self.read_ahead.into()))
    }
}

/// Wakes one slot of a shard: puts its key on the shard's list, once until it is looked at.
#[derive(Debug)]
pub struct SlotWaker {
    key: SlotKey,
    queued: WakeFlag,
    ready: Arc<ReadyList>,
}

impl SlotWaker {
    pub(crate) fn new(key: SlotKey, ready: Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { key, queued: WakeFlag::default(), ready })
    }

    /// Puts the slot on its shard's list.
    pub fn wake_slot(&self) {
        if self.queued.raise() {
            self.ready.push(self.key);
        }
    }

    /// Called before the slot is looked at, so that what happens from now on wakes it again.
    pub(crate) fn rearm(&self) {
        self.queued.lower();
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_slot();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_slot();
    }
}

/// The slots of a shard that have something to do. At most one entry a slot.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    keys: Mutex<Vec<SlotKey>>,
    notify: Notify,
}

impl ReadyList {
    fn push(&self, key: SlotKey) {
        let mut keys = self.keys.lock();
        keys.push(key);
        if keys.len() == 1 {
            self.notify.notify_one();
        }
    }

    /// Wakes the shard although the list may be empty.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Whether the shard would have been woken; from then on it is asleep again.
    #[cfg(test)]
    pub(crate) fn take_wake(&self) -> bool {
        let notified = std::pin::pin!(self.notify.notified());
        notified.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Moves the list to `keys`.
    pub(crate) fn take(&self, keys: &mut Vec<SlotKey>) {
        keys.append(&mut self.keys.lock());
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.lock().is_empty()
    }

    /// Waits until the list has something.
    pub(crate) async fn ready(&self) {
        self.notify.notified().await;
    }
}

/// Bytes of a next request kept while a poll waits.
pub(super) const READ_AHEAD_BYTES_MAX: usize = 8 * 1024;
/// Bytes a stream's client may send; they are dropped.
pub(super) const DROPPED_BYTES_MAX: u16 = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn the_address_of_a_peer_that_has_reset_stays_known() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("its address");
        let client = TcpStream::connect(local).expect("a client");
        let (io, peer) = listener.accept().expect("its connection");
        io.set_nonblocking(true).expect("a flag");
        let tcp = Tcp::unregistered(io, SocketAddrs { local, peer });
        let mut socket = StreamSocket::new(tcp).expect("a socket");
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a flag");
        drop(client);
        while socket.poll_input() == Input::Quiet {
            thread::yield_now();
        }
        assert!(socket.io.peer_addr().is_err(), "the kernel no longer says it");
        assert_eq!(SlotPeer::Socket(socket).address(), Some(peer));
    }

    #[test]
    fn a_connection_that_the_kernel_gave_up_is_no_connection_that_its_client_closed() {
        for (kind, input) in [
            (io::ErrorKind::TimedOut, Input::TimedOut),
            (io::ErrorKind::HostUnreachable, Input::TimedOut),
            (io::ErrorKind::NetworkUnreachable, Input::TimedOut),
            (io::ErrorKind::ConnectionReset, Input::Closed),
            (io::ErrorKind::BrokenPipe, Input::Closed),
        ] {
            assert_eq!(Input::of_error(&kind.into()), input, "{kind:?}");
        }
    }
}
