//! Passes the listening sockets and the log from a hub to the process that takes over from it, so
//! that no connection is refused during a restart.
//!
//! A hub with a log on disk listens on a Unix socket in its data directory. A new process
//! (`--take-over`) connects to it, receives the listening sockets (`SCM_RIGHTS`, unix(7)), and
//! performs every step of its start that does not need the log. If all of them succeed, it confirms
//! the take-over. It waits until the old process has closed the log, opens the log, and accepts
//! connections. Meanwhile new connections wait in the kernel's accept queue, which belongs to the
//! socket, not to a process. If the new process bound sockets of its own instead, connections in
//! the queues of the old ones would be reset.
//!
//! The other side is [`Predecessor`](super::predecessor::Predecessor).

use std::{
    fs::{self, File},
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::geteuid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

use super::front::HttpFront;

/// The Unix socket on which a hub listens for its successor.
#[derive(Debug)]
pub(super) struct HandoverSocket(UnixListener);

impl HandoverSocket {
    /// Listens in the directory of a log. This process must hold the log's lock.
    pub(super) fn listen(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (address, _directory) = socket_address(data_dir)?;
        let listener = UnixListener::bind(address)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        // The file is not removed when this process ends: by then the successor may have its own
        // socket under this name.
        Ok(Self(listener))
    }

    /// Passes the listening sockets of `front` to processes that connect, until one of them
    /// confirms the take-over.
    pub(super) async fn pass_on(self, front: Arc<HttpFront>) -> Successor {
        loop {
            let stream = match self.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the handover socket does not accept");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let mut successor = Successor(stream);
            let listeners = front.listeners.iter().flatten();
            let passing = timeout(PASS_ON_TIME_MAX, successor.pass_on(listeners));
            match passing.await.unwrap_or_else(|late| Err(late.into())) {
                Ok(()) => return successor,
                Err(error) => tracing::warn!(%error, "the hub was not taken over"),
            }
        }
    }
}

/// A process that takes over.
#[derive(Debug)]
pub(super) struct Successor(UnixStream);

impl Successor {
    async fn pass_on(
        &mut self,
        listeners: impl IntoIterator<Item = &TcpListener>,
    ) -> io::Result<()> {
        // Another user may have connected before the `chmod`, so the user of the peer is checked.
        let user = self.0.peer_cred()?.uid();
        if user != geteuid().as_raw() && user != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        for listener in listeners {
            self.0.async_io(Interest::WRITABLE, || send(&self.0, listener)).await?;
        }
        self.0.write_all(&[ALL_SENT]).await?;
        // The successor has confirmed.
        self.0.read_u8().await?;
        Ok(())
    }

    /// Reports to the successor that the log is closed. Fails if that process has ended.
    pub(super) async fn log_is_closed(mut self) -> io::Result<()> {
        self.0.write_all(&[LOG_CLOSED]).await
    }
}

fn send(stream: &UnixStream, listener: &TcpListener) -> io::Result<()> {
    let fds = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(stream, &[IoSlice::new(&[LISTENER])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The address of the socket in a directory. A Unix address has at most 108 bytes (unix(7)), so for
/// a long path the directory is opened, and the address is its path in `/proc`. Such an address is
/// valid while the returned file is open.
pub(super) fn socket_address(data_dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = data_dir.join(SOCKET);
    if path.as_os_str().len() < ADDRESS_BYTES {
        return Ok((path, None));
    }
    let directory = File::open(data_dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    Ok((path.into(), Some(directory)))
}

/// The socket's file name.
const SOCKET: &str = "handover";
/// A message that carries one listening socket.
const LISTENER: u8 = b'L';
/// From the old process: all listening sockets have been sent. From the new one: the confirmation.
pub(super) const ALL_SENT: u8 = b'E';
/// From the old process: the log is closed.
const LOG_CLOSED: u8 = b'C';
/// Bytes of a Unix address.
const ADDRESS_BYTES: usize = 108;
/// How long a connected process may take to confirm. Others that connect wait meanwhile.
const PASS_ON_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after an `accept` has failed: its causes, such as the file limit, last for a while.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
