//! The other end of a connection: something that takes bytes without blocking and wakes its slot
//! when it takes more, or has gone.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::Notify};

use super::shard::SlotKey;

/// What a connection writes to.
pub trait Peer: fmt::Debug {
    /// Takes as much of `bytes` as it can now. `WouldBlock` promises that `waker` will be woken
    /// when it takes more.
    fn try_write(&mut self, bytes: &Bytes, waker: &Arc<SlotWaker>) -> io::Result<usize>;

    /// Looks at what has come in; unless it is over, promises that `waker` will be woken when
    /// something does.
    fn poll_input(&mut self, waker: &Arc<SlotWaker>) -> Input;

    /// The other side's address, where there is one.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// The socket and the bytes read from it, if it is one that may go on.
    fn into_socket(self: Box<Self>) -> Option<(TcpStream, Bytes)> {
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
}

/// A socket that was taken back from the HTTP server.
#[derive(Debug)]
pub(crate) struct SocketPeer {
    io: TcpStream,
    /// Bytes of the next request on a poll's socket; a stream's are dropped and counted.
    early: Vec<u8>,
    dropped: usize,
    keeps_input: bool,
    reading: bool,
}

impl SocketPeer {
    /// Takes over `io`; `early` was read from it already. With `keeps_input` what comes in is
    /// the next request and is handed back with the socket.
    pub(crate) fn new(io: TcpStream, early: &[u8], keeps_input: bool) -> Self {
        let early = if keeps_input { early.to_vec() } else { Vec::new() };
        Self { io, early, dropped: 0, keeps_input, reading: true }
    }
}

impl Peer for SocketPeer {
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
                Poll::Ready(Err(_)) => return Input::Closed,
                Poll::Ready(Ok(())) => {}
            }
            match self.io.try_read(&mut chunk) {
                Ok(0) => return Input::Closed,
                Ok(n) if self.keeps_input => {
                    self.early.extend_from_slice(&chunk[..n]);
                    // The deadline ends the wait in any case, so stop looking.
                    self.reading = self.early.len() < EARLY_BYTES_MAX;
                }
                Ok(n) => {
                    self.dropped += n;
                    if self.dropped > DROPPED_BYTES_MAX {
                        return Input::TooMuch;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Input::Closed,
            }
        }
        Input::Quiet
    }

    fn address(&self) -> Option<SocketAddr> {
        self.io.peer_addr().ok()
    }

    fn into_socket(self: Box<Self>) -> Option<(TcpStream, Bytes)> {
        Some((self.io, self.early.into()))
    }
}

/// Wakes one slot of a shard: puts its key on the shard's list, once until it is looked at.
#[derive(Debug)]
pub struct SlotWaker {
    key: SlotKey,
    queued: AtomicBool,
    ready: Arc<ReadyList>,
}

impl SlotWaker {
    pub(crate) fn new(key: SlotKey, ready: Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { key, queued: AtomicBool::new(false), ready })
    }

    /// Puts the slot on its shard's list.
    pub fn wake_slot(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.push(self.key);
        }
    }

    /// Called before the slot is looked at, so that what happens from now on wakes it again.
    pub(crate) fn rearm(&self) {
        self.queued.store(false, Ordering::Release);
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
const EARLY_BYTES_MAX: usize = 8 * 1024;
/// Bytes a stream's client may send for nothing.
const DROPPED_BYTES_MAX: usize = 16 * 1024;
