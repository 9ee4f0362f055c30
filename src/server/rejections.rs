//! Rejects connections over a limit, with an HTTP answer that says when to retry.
//!
//! The hub reads the head of one request, answers it with a `Retry-After`, and closes the
//! connection. There are three ways to a rejection:
//! - [`reject_over_limit`](Rejections::reject_over_limit): the client's address or the rate of new
//!   connections is over its limit.
//! - [`reject_over_budget`](Rejections::reject_over_budget): the socket budget has no permit. At
//!   most [`REJECTIONS_MAX`] connections are rejected at a time; others wait in the kernel's accept
//!   queue, where they cost no file descriptor.
//! - [`accept_and_reject`](Rejections::accept_and_reject): the process has no file descriptor for
//!   the connection, so it is accepted with one of the [`Reserve`].

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

/// Rejects connections of all shards.
#[derive(Clone)]
pub(super) struct Rejections(Arc<RejectionState>);

struct RejectionState {
    budget: SocketBudget,
    dispatcher: Dispatcher,
    tls: Option<Acceptor>,
    permits: Arc<Semaphore>,
    /// Rates of TLS handshakes for rejections: one for rejections that are the client's fault
    /// (`true`), one for those that are the hub's.
    handshakes: Option<RateLimits<bool>>,
    reserve: Reserve,
    /// Limits the log lines which say that the hub cannot accept connections.
    hub_fault_log: LogThrottle,
    /// Limits the log lines which say that clients exceed their limits.
    over_limit_log: LogThrottle,
}

impl Rejections {
    pub(super) fn new(budget: SocketBudget, dispatcher: Dispatcher, tls: Option<Acceptor>) -> Self {
        let permits = Arc::new(Semaphore::new(REJECTIONS_MAX));
        let handshakes = RateLimits::new(HANDSHAKES_PER_S, HANDSHAKES_PER_S, 2);
        Self(Arc::new(RejectionState {
            budget,
            dispatcher,
            tls,
            permits,
            handshakes,
            reserve: Reserve::new(),
            hub_fault_log: LogThrottle::default(),
            over_limit_log: LogThrottle::default(),
        }))
    }

    /// Rejects a connection for which the socket budget has no permit. Waits first, if
    /// [`REJECTIONS_MAX`] connections are being rejected.
    pub(super) async fn reject_over_budget(&self, io: Tcp, why: Exhausted) {
        self.count_and_log(why);
        let permit = Arc::clone(&self.0.permits).acquire_owned().await;
        let permit = permit.expect("it is never closed");
        spawn_local(answer_and_close(self.clone(), io, TemporaryRejection::full(), permit));
    }

    /// Rejects a connection over a limit of its address, or over the hub's rate of new connections.
    /// It is answered if few rejections are under way. Otherwise it is closed at once, so that
    /// other connections do not wait for it.
    pub(super) fn reject_over_limit(&self, io: Tcp, why: RejectReason) {
        let peer = io.addrs().peer.ip();
        self.0.budget.metrics().sockets_refused.count(why.as_str());
        if let Some(times) = self.0.over_limit_log.due() {
            let reason = why.as_str();
            tracing::warn!(reason, %peer, times, "rejecting connections over a limit");
        }
        // Half of the permits are reserved for rejections that are the hub's fault, not the
        // client's.
        if self.0.permits.available_permits() > REJECTIONS_MAX / 2
            && let Ok(permit) = Arc::clone(&self.0.permits).try_acquire_owned()
        {
            spawn_local(answer_and_close(self.clone(), io, why.to_rejection(), permit));
        }
    }

    /// Accepts the next connection with a file descriptor of the reserve and rejects it, after an
    /// `accept` has failed at the file limit of the process. False if there is still no descriptor.
    pub(super) async fn accept_and_reject(&self, listener: &AcceptQueue) -> bool {
        let reserve = &self.0.reserve;
        if !reserve.close_one() {
            reserve.fill();
            return false;
        }
        // The connection is still in the accept queue: `accept` failed for lack of a file
        // descriptor.
        match listener.accept_now() {
            Ok(io) => {
                self.count_and_log(Exhausted::Files);
                let io = self.send_rejection(io, &TemporaryRejection::full()).await;
                reserve.close_into_reserve(io);
                true
            }
            // If the error is not the file limit again, the client has closed the connection
            // meanwhile, and the queue is empty.
            Err(error) => {
                reserve.fill();
                !is_no_file(&error)
            }
        }
    }

    /// Fills the reserve of file descriptors. False if the kernel gives none for it; the connection
    /// just accepted must then be rejected, and its descriptor goes into the reserve.
    pub(super) fn fill_reserve(&self) -> bool {
        self.0.reserve.fill()
    }

    /// Logs, at a bounded rate, that `accept` failed.
    pub(super) fn log_accept_error(&self, error: &io::Error) {
        if let Some(times) = self.0.hub_fault_log.due() {
            tracing::warn!(%error, times, "cannot accept connections for now");
        }
    }

    /// Answers the first request with the time to retry, within [`REJECTION_TIME_MAX`]. Returns the
    /// socket, which the caller closes.
    ///
    /// Under TLS the answer needs a handshake, which costs the hub a thousand times what the
    /// connection costs its client. Above the rate of [`HANDSHAKES_PER_S`] a connection gets no
    /// answer.
    async fn send_rejection(&self, mut io: Tcp, why: &TemporaryRejection) -> Tcp {
        let writer = &self.0.dispatcher.rejection_writer();
        let answered = async {
            match &self.0.tls {
                None => answer_first_request(writer, &mut io, why).await,
                Some(_) if !self.may_handshake(why) => Ok(()),
                Some(tls) => {
                    let mut io = tls.handshake_to_reject(&mut io).await?;
                    answer_first_request(writer, &mut io, why).await
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

    fn count_and_log(&self, why: Exhausted) {
        self.0.budget.metrics().sockets_refused.count(why.as_str());
        if let Some(times) = self.0.hub_fault_log.due() {
            tracing::warn!(
                reason = why.as_str(),
                times,
                "rejecting connections: socket limit reached"
            );
        }
    }
}

/// Sends a rejection and closes the connection, whose descriptor goes into the reserve if one is
/// missing there.
async fn answer_and_close(
    rejections: Rejections,
    io: Tcp,
    why: TemporaryRejection,
    _permit: OwnedSemaphorePermit,
) {
    let io = rejections.send_rejection(io, &why).await;
    rejections.0.reserve.close_into_reserve(io);
}

/// Reads the head of a request, writes the answer, and shuts down the sending side.
async fn answer_first_request(
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
    // The HTTP/2 preface contains an empty line, after which reading stops. The rest of the preface
    // may still be on the way, so only the part up to this line is compared.
    match head.starts_with(&PREFACE[..EMPTY_LINE_END]) {
        true => io.write_all(GOAWAY_REJECTION).await?,
        false => io.write_all(&writer.answer(&head, why)).await?,
    }
    io.shutdown().await?;
    // Read until the client closes: a socket that is closed with unread bytes is reset, and the
    // reset may overtake the answer.
    let mut bytes = [0; 1_024];
    while io.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Spare file descriptors. At the file limit one is closed, so that a connection can be accepted
/// and rejected. There is one reserve for all accept loops, with several descriptors: another
/// thread may use one that was just closed for a socket of its own.
#[derive(Debug)]
struct Reserve {
    spare: Mutex<Vec<OwnedFd>>,
    /// An unbound socket, which the spare descriptors are duplicates of. It needs no
    /// path; `/dev/null` may be missing in a container.
    original: Option<OwnedFd>,
}

impl Reserve {
    fn new() -> Self {
        let original = UnixDatagram::unbound().ok().map(OwnedFd::from);
        let reserve = Self { spare: Mutex::default(), original };
        reserve.fill();
        reserve
    }

    /// Closes a spare descriptor, so that its number is free; false if the reserve is empty.
    fn close_one(&self) -> bool {
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

    /// Closes a socket. If a spare descriptor is missing, `dup2` closes the socket and makes its
    /// descriptor a spare one in a single system call: between a `close` and an `open` another
    /// thread could take the descriptor.
    fn close_into_reserve(&self, io: Tcp) {
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

/// Bytes of the HTTP/2 preface up to the end of its first empty line.
const EMPTY_LINE_END: usize = 18;
/// Rejections under way at a time.
pub(super) const REJECTIONS_MAX: usize = 32;
/// File descriptors in the reserve.
pub(super) const RESERVE_FILES: usize = 8;
/// TLS handshakes a second for rejections that are the client's fault, and as many for those that
/// are the hub's. With RSA, where a handshake takes a millisecond, that is 1.5 percent of a core
/// each.
const HANDSHAKES_PER_S: u32 = 16;
/// How long one rejection may take.
const REJECTION_TIME_MAX: Duration = Duration::from_secs(1);
/// Most bytes of a request's head that are read. Its `Accept` field decides the form of the answer.
const HEAD_BYTES_MAX: usize = 8 * 1024;
