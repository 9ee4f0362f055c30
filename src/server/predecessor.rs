//! The side of the new process in a take-over ([`handover`](super::handover)).

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::handover::{ALL_SENT, socket_address};
use crate::disk::{DataDir, OpenError};

/// The running hub that this process takes over from.
#[derive(Debug)]
pub(super) struct Predecessor {
    data_dir: PathBuf,
    stream: UnixStream,
    pub(super) listeners: Vec<TcpListener>,
}

impl Predecessor {
    /// Receives the listening sockets of the hub that runs on a data directory; `None` if no hub
    /// does. The hub continues to serve until [`confirm`](Self::confirm).
    ///
    /// A hub that is starting, draining, or being taken over by another process has the log but
    /// passes no sockets. This waits for the end of such a hub, for a bounded time.
    pub(super) async fn find(data_dir: &Path) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + DRAIN_TIME_MAX;
        let mut is_waiting = false;
        loop {
            let connected = timeout(STEP_TIME_MAX, Self::connect(data_dir)).await;
            let connected = connected.unwrap_or_else(|late| Err(late.into()));
            if let Some(found) = connected.map_err(|error| failed(data_dir, &error))? {
                return Ok(Some(found));
            }
            if !is_locked(data_dir).await || Instant::now() > deadline {
                return Ok(None);
            }
            if !is_waiting {
                is_waiting = true;
                tracing::info!("a hub that passes no sockets on has the log; waiting for its end");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Connects to a hub; `None` if no hub passes its sockets.
    async fn connect(data_dir: &Path) -> io::Result<Option<Self>> {
        match Self::receive(data_dir).await {
            Err(error) if is_gone(&error) => Ok(None),
            result => result.map(Some),
        }
    }

    async fn receive(data_dir: &Path) -> io::Result<Self> {
        let (address, _directory) = socket_address(data_dir)?;
        let stream = UnixStream::connect(address).await?;
        let mut listeners = Vec::new();
        loop {
            let receive = || receive(&stream, &mut listeners);
            if stream.async_io(Interest::READABLE, receive).await? == ALL_SENT {
                return Ok(Self { data_dir: data_dir.to_owned(), stream, listeners });
            }
        }
    }

    /// Confirms the take-over: the old hub stops accepting and closes its log, for which this waits
    /// a bounded time. If the old process ends instead, its log is free as well.
    pub(super) async fn confirm(mut self) -> io::Result<()> {
        let named = |error: io::Error| failed(&self.data_dir, &error);
        self.stream.write_all(&[ALL_SENT]).await.map_err(named)?;
        let closing = timeout(STEP_TIME_MAX, self.stream.read_u8());
        let wait = match closing.await.unwrap_or_else(|late| Err(late.into())) {
            Ok(_) => LOCK_TIME_MAX,
            Err(error) if is_gone(&error) => {
                tracing::warn!("the old hub did not report that its log is closed");
                DRAIN_TIME_MAX
            }
            Err(error) => return Err(failed(&self.data_dir, &error)),
        };
        let deadline = Instant::now() + wait;
        // If the log is still locked after that, opening it reports the error.
        while is_locked(&self.data_dir).await && Instant::now() < deadline {
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

/// Receives one message and the socket that comes with it.
fn receive(stream: &UnixStream, listeners: &mut Vec<TcpListener>) -> io::Result<u8> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(stream, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            listeners.extend(fds.map(TcpListener::from));
        }
    }
    Ok(byte[0])
}

/// Whether the error means that no hub listens, or that the hub has ended or is ending.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}

/// Whether another process has the log of a directory.
async fn is_locked(data_dir: &Path) -> bool {
    let data_dir = data_dir.to_owned();
    let opened = spawn_blocking(move || DataDir::open_existing(&data_dir).map(drop)).await;
    matches!(opened, Ok(Err(OpenError::Locked { .. })))
}

fn failed(data_dir: &Path, error: &io::Error) -> io::Error {
    let text = format!("cannot take over from the hub of {}: {error}", data_dir.display());
    io::Error::new(error.kind(), text)
}

/// How long one step of the old process may take. The slowest is an fsync.
const STEP_TIME_MAX: Duration = Duration::from_secs(30);
/// How long to wait for a hub that drains.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the lock may be held after the old process has reported that its log is closed.
const LOCK_TIME_MAX: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
