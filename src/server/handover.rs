//! Passing the listening sockets and the log on from one process to the next, so that a restart refuses
//! no connection.
//!
//! A hub with a log on disk waits at a Unix socket in its directory. A new process (`--take-over`) gets
//! the listening sockets there (`SCM_RIGHTS`, unix(7)), waits until the old one has closed the log, opens
//! it and accepts. Meanwhile connections wait in the kernel's queue, which belongs to the sockets and not
//! to a process: a second bind would have a queue of its own, and connections in the first would be reset.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::Path,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::net::UnixListener;

/// Where a hub waits for its successor.
#[derive(Debug)]
pub(super) struct HandoverSocket(UnixListener);

impl HandoverSocket {
    /// Waits in the directory of a log, which this process has locked.
    pub(super) fn listen(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        // It stays when this process ends: by then its successor may have one of this name.
        Ok(Self(listener))
    }

    /// Waits for a successor.
    pub(super) async fn successor(&self) -> io::Result<Successor> {
        let (stream, _) = self.0.accept().await?;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(STEP_TIME_MAX))?;
        stream.set_read_timeout(Some(STEP_TIME_MAX))?;
        Ok(Successor(stream))
    }
}

/// A process that takes over.
#[derive(Debug)]
pub(super) struct Successor(UnixStream);

impl Successor {
    /// Passes the sockets on. Blocks for a bounded time.
    pub(super) fn pass_on<'a>(
        &mut self,
        listeners: impl IntoIterator<Item = &'a TcpListener>,
    ) -> io::Result<()> {
        for listener in listeners {
            let fds = [listener.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            sendmsg(&self.0, &[IoSlice::new(&[LISTENER])], &mut ancillary, SendFlags::NOSIGNAL)?;
        }
        self.0.write_all(&[ALL_SENT])?;
        // It has them, and is going to accept.
        let mut taken = [0];
        self.0.read_exact(&mut taken)
    }

    /// Says that the log is closed.
    pub(super) fn log_is_closed(mut self) -> io::Result<()> {
        self.0.write_all(&[LOG_CLOSED])
    }
}

/// A process that is taken over from.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
    pub(super) listeners: Vec<TcpListener>,
}

impl Predecessor {
    /// Asks the hub that has the log of a directory for its sockets; `None` if it has no hub. Blocks
    /// for a bounded time.
    pub(super) fn ask(data_dir: &Path) -> io::Result<Option<Self>> {
        let mut stream = match UnixStream::connect(data_dir.join(SOCKET)) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(STEP_TIME_MAX))?;
        let mut listeners = Vec::new();
        loop {
            let mut byte = [0];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &stream,
                &mut [IoSliceMut::new(&mut byte)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    listeners.extend(fds.map(TcpListener::from));
                }
            }
            if byte == [ALL_SENT] {
                break;
            }
        }
        stream.write_all(&[ALL_SENT])?;
        Ok(Some(Self { stream, listeners }))
    }

    /// Waits until it has closed the log. Blocks for a bounded time.
    pub(super) fn wait_for_log(&mut self) -> io::Result<()> {
        let mut closed = [0];
        self.stream.read_exact(&mut closed)
    }
}

/// The file of the socket.
const SOCKET: &str = "handover";
const LISTENER: u8 = b'L';
const ALL_SENT: u8 = b'E';
const LOG_CLOSED: u8 = b'C';
/// How long either waits for the other: an fsync may take its time.
const STEP_TIME_MAX: Duration = Duration::from_secs(30);
