//! Rejects connections over the limits, with an HTTP answer that says when to retry.
//!
//! The hub reads the head of one request, answers it with a `Retry-After`, and closes the
//! connection. It does so for a few connections at a time; the others wait in the kernel's accept
//! queue, where they cost no file descriptor.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_local,
    time::timeout,
};

use super::{
    accept_queue::AcceptQueue,
    connection_limits::RejectReason,
    preface::{GOAWAY_REJECTION, PREFACE},
    socket_budget::{Exhausted, SocketBudget, is_no_file},
    tls::Acceptor,
};
use crate::{
    actors::Tcp,
    http::{Dispatcher, RejectionWriter, TemporaryRejection},
    hub::RateLimits,
    telemetry::LogThrottle,
};

/// Rejects connections, over all shards together.
#[derive(Clone)]
pub(super) struct Rejections(Arc<RejectionState>);

struct RejectionState {
    budget: SocketBudget,
    dispatcher: Dispatcher,
    tls: Option<Acceptor>,
    permits: Arc<Semaphore>,
    /// TLS handshakes for rejections: one rate for clients over a limit of their own, one for
    /// limits of the hub.
    handshakes: Option<RateLimits<bool>>,
    reserve: Reserve,
    report: LogThrottle,
    over_limit: LogThrottle,
}

impl Rejections {
    pub(super) fn new(budget: SocketBudget, dispatcher: Dispatcher, tls: Option<Acceptor>) -> Self {
        let permits = Arc::new(Semaphore::new(REJECTIONS_MAX));
        let handshakes = RateLimits::new(HANDSHAKES_PER_S, HANDSHAKES_PER_S, 2);
        let (reserve, report, over_limit) =
            (Reserve::new(), LogThrottle::default(), LogThrottle::default());
        let shared = RejectionState {
            budget,
            dispatcher,
            tls,
            permits,
            handshakes,
            reserve,
            report,
            over_limit,
        };
        Self(Arc::new(shared))
    }

    /// Rejects a connection for which the socket budget has no permit; waits until fewer than
    /// [`REJECTIONS_MAX`] are being rejected.
    pub(super) async fn reject_exhausted(&self, io: Tcp, why: Exhausted) {
        self.note(why);
        let permit = Arc::clone(&self.0.permits).acquire_owned().await;
        let permit = permit.expect("it is never closed");
        spawn_local(answer(self.clone(), io, TemporaryRejection::full(), permit));
    }

    /// Rejects a connection over a limit of its address, or over the hub's rate of new connections.
    /// It is answered if few rejections are under way; otherwise it is closed at once, so that no
    /// other connection waits for it.
    pub(super) fn reject(&self, io: Tcp, why: RejectReason) {
        let peer = io.addrs().peer.ip();
        self.0.budget.metrics().sockets_refused.count(why.as_str());
        if let Some(times) = self.0.over_limit.due() {
            let reason = why.as_str();
            tracing::warn!(reason, %peer, times, "rejecting connections over a limit");
        }
        // Half of the permits are reserved for rejections that are the hub's fault, not the
        // client's.
        if self.0.permits.available_permits() > REJECTIONS_MAX / 2
            && let Ok(permit) = Arc::clone(&self.0.permits).try_acquire_owned()
        {
            spawn_local(answer(self.clone(), io, why.to_rejection(), permit));
        }
    }

    /// Rejects the next connection with a file descriptor of the reserve, when the process is at
    /// its file limit. False if that fails too.
    pub(super) async fn reject_by_reserve(&self, listener: &AcceptQueue) -> bool {
        let reserve = &self.0.reserve;
        if !reserve.give_up() {
            reserve.fill();
            return false;
        }
        // The connection is still in the accept queue: `accept` failed for lack of a file
        // descriptor.
        match listener.accept_now() {
            Ok(io) => {
                self.note(Exhausted::Files);
                reserve.put_back(self.send_rejection(io, &TemporaryRejection::full()).await);
                true
            }
            // `accept` would wait: the client has closed the connection meanwhile.
            Err(error) => {
                reserve.fill();
                !is_no_file(&error)
            }
        }
    }

    /// Refills the reserve of file descriptors; false if it cannot be filled. Then the next
    /// connection is rejected and its descriptor goes into the reserve.
    pub(super) fn has_reserve(&self) -> bool {
        self.0.reserve.fill()
    }

    /// Logs, at a bounded rate, that connections cannot be accepted.
    pub(super) fn report(&self, error: &io::Error) {
        if let Some(times) = self.0.report.due() {
            tracing::warn!(%error, times, "cannot accept connections for now");
        }
    }

    /// Answers when to retry, within [`REJECTION_TIME_MAX`]. Returns the socket for the caller to
    /// close.
    ///
    /// Under TLS the answer needs a handshake, which costs the hub a thousand times what the
    /// connection costs its client. Past [`HANDSHAKES_PER_S`] a connection is closed without an
    /// answer.
    async fn send_rejection(&self, mut io: Tcp, why: &TemporaryRejection) -> Tcp {
        let writer = &self.0.dispatcher.rejection_writer();
        let answered = async {
            match &self.0.tls {
                None => exchange(writer, &mut io, why).await,
                Some(_) if !self.may_handshake(why) => Ok(()),
                Some(tls) => {
                    exchange(writer, &mut tls.handshake_to_reject(&mut io).await?, why).await
                }
            }
        };
        let _ = timeout(REJECTION_TIME_MAX, answered).await;
        io
    }

    fn may_handshake(&self, why: &TemporaryRejection) -> bool {
        let rates = self.0.handshakes.as_ref();
        rates.is_none_or(|rates| rates.take(&why.is_client_fault(), 1).is_ok())
    }

    fn note(&self, why: Exhausted) {
        self.0.budget.metrics().sockets_refused.count(why.as_str());
        if let Some(times) = self.0.report.due() {
            tracing::warn!(
                reason = why.as_str(),
                times,
                "rejecting connections: socket limit reached"
            );
        }
    }
}

async fn answer(
    rejections: Rejections,
    io: Tcp,
    why: TemporaryRejection,
    _permit: OwnedSemaphorePermit,
) {
    let io = rejections.send_rejection(io, &why).await;
    rejections.0.reserve.put_back(io);
}

/// Reads a request's head, answers, and shuts down the sending side.
async fn exchange(
    writer: &RejectionWriter,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    why: &TemporaryRejection,
) -> io::Result<()> {
    let mut head = Vec::with_capacity(1_024);
    while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if io.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    // The HTTP/2 preface contains an empty line; its rest may still be on the way.
    match head.starts_with(PREFACE.split_at(EMPTY_LINE_END).0) {
        true => io.write_all(GOAWAY_REJECTION).await?,
        false => io.write_all(&writer.answer(&head, why)).await?,
    }
    io.shutdown().await?;
    // A socket that is closed with unread bytes is reset, and the reset may overtake the answer.
    let mut bytes = [0; 1_024];
    while io.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Spare file descriptors. At the file limit one is closed, so that a connection can be accepted
/// with it and rejected. All accept loops share them: another thread may take the freed descriptor
/// for its own socket.
#[derive(Debug)]
struct Reserve {
    spare: Mutex<Vec<OwnedFd>>,
    /// The file that the spare descriptors are duplicates of: an unbound socket, which needs no
    /// path. A container may have no `/dev/null`.
    original: Option<OwnedFd>,
}

impl Reserve {
    fn new() -> Self {
        let original = UnixDatagram::unbound().ok().map(OwnedFd::from);
        let reserve = Self { spare: Mutex::default(), original };
        reserve.fill();
        reserve
    }

    /// Closes a spare descriptor; false if the reserve is empty.
    fn give_up(&self) -> bool {
        self.spare.lock().pop().is_some()
    }

    /// Fills the reserve up; false if the kernel gives no descriptor.
    fn fill(&self) -> bool {
        let mut spare = self.spare.lock();
        while spare.len() < RESERVE_FILES {
            let Some(Ok(copy)) = self.original.as_ref().map(OwnedFd::try_clone) else {
                return false;
            };
            spare.push(copy);
        }
        true
    }

    /// Closes a socket. If a spare descriptor is missing, `dup2` puts it where the socket was in
    /// the same system call: between a `close` and an `open` another thread could take the
    /// descriptor.
    fn put_back(&self, io: Tcp) {
        let Ok(io) = io.into_std() else { return };
        let mut spare = self.spare.lock();
        if spare.len() < RESERVE_FILES
            && let Some(original) = &self.original
        {
            let mut file = OwnedFd::from(io);
            if rustix::io::dup2(original, &mut file).is_ok() {
                spare.push(file);
            }
        }
    }
}

/// Where the first empty line of HTTP/2's preface ends.
const EMPTY_LINE_END: usize = 18;
/// Rejections under way at a time.
pub(super) const REJECTIONS_MAX: usize = 32;
/// Files in reserve.
pub(super) const RESERVE_FILES: usize = 8;
/// TLS handshakes a second for rejections of each kind. With RSA, where a handshake takes a
/// millisecond, that is 1.5 percent of a core.
const HANDSHAKES_PER_S: u32 = 16;
/// How long one rejection may take.
const REJECTION_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of a request's head that are read to find its `Accept` field.
const HEAD_BYTES_MAX: usize = 8 * 1024;
