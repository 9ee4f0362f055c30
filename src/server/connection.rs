//! One HTTP/1 connection: hyper parses and answers; the socket of a stream or a waiting poll is
//! handed off to the shard, and hyper's buffers are freed. A plain request is parsed before hyper
//! starts, and mostly hyper never does.
//!
//! Only the socket of a GET without a body is handed off: late bytes of a body would be read as the
//! next request when a poll's socket goes back. And only once all earlier bytes have been written.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use hyper::{
    Request, Response, Version, body::Incoming, header, header::HeaderValue, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
    time::sleep,
};

use super::{
    arrival::Arrival,
    connection_limits::AddressCount,
    plain::plain_request,
    preface::Protocol,
    rewind::Rewind,
    socket_budget::{SocketBudget, SocketPermit},
    tls::Acceptor,
    write_progress::{Stall, WriteProgress},
};
use crate::{
    actors::{LocalShard, Socket, Tcp},
    core::{Http2Limits, RequestLimits},
    http::{Dispatcher, EndsByCut, Handoff, Outcome, TrustedProxies},
    hub::Hub,
    model::TransferCoding,
};

/// What all connections of a shard share.
pub(super) struct Connections {
    pub(super) hub: Hub,
    pub(super) dispatcher: Dispatcher,
    pub(super) shard: LocalShard,
    pub(super) header_read_timeout: Duration,
    /// How long a connection may be without a request after its last answer.
    pub(super) keep_alive: Duration,
    pub(super) closing: tokio::sync::watch::Receiver<bool>,
    /// How long a client may take nothing of an answer.
    pub(super) write_stall: Duration,
    pub(super) budget: SocketBudget,
    pub(super) request_limits: RequestLimits,
    /// Where all connections are encrypted.
    pub(super) tls: Option<Acceptor>,
    /// The trusted proxies.
    pub(super) proxies: TrustedProxies,
    /// The bounds of HTTP/2.
    pub(super) http2: Http2Limits,
}

/// The permits of a connection while requests are read from it.
pub(super) type HeldPermits = (SocketPermit, AddressCount);

/// How the HTTP server's part of a connection ended.
enum Ended {
    /// By itself.
    Over(hyper::Result<()>),
    /// A response asks for the socket.
    HandedOff,
    /// The client does not read its answer.
    Stalled,
}

/// What follows hyper on a connection.
enum After {
    Closed,
    /// A next request, perhaps: none has begun for as long as a head may take.
    Idle(Socket),
    /// A shard, for a stream or a poll; the bytes were read too early.
    Handoff(Socket, Bytes),
}

/// A response that asks for its socket.
struct PendingHandoff {
    handoff: Handoff,
    keep_alive: bool,
    coding: TransferCoding,
}

impl Connections {
    /// Serves a connection that was just accepted.
    pub(super) async fn accept(self: Rc<Self>, mut io: Tcp, held: HeldPermits) {
        let Some(tls) = &self.tls else {
            let Ok(early) = read_first_bytes(&mut io).await else { return };
            let wait = self.header_read_timeout;
            return self.serve(io.into(), early, None, wait, held).await;
        };
        let Ok(io) = io.into_tokio() else { return };
        let negotiated = tokio::select! {
            biased;
            negotiated = Box::pin(tls.handshake(io)) => negotiated,
            () = self.shutdown_requested() => None,
            () = self.shard.gone() => None,
        };
        if let Some((io, protocol)) = negotiated {
            let wait = self.header_read_timeout;
            self.serve(io, Bytes::new(), Some(protocol), wait, held).await;
        }
    }

    /// Serves a connection until it ends, its shard is gone, or it is handed off. `early` was read
    /// already; if nothing was, the client has so long to begin. Without a protocol its first bytes say
    /// it.
    async fn serve(
        self: Rc<Self>,
        io: Socket,
        early: Bytes,
        protocol: Option<Protocol>,
        wait: Duration,
        _held: HeldPermits,
    ) {
        tokio::select! {
            // Most are done at the first poll, and never wait for their shard's end.
            biased;
            () = Box::pin(self.serve_requests(io, early, protocol, wait)) => {}
            () = self.shard.gone() => {}
        }
    }

    async fn serve_requests(
        &self,
        mut io: Socket,
        mut early: Bytes,
        mut protocol: Option<Protocol>,
        mut wait: Duration,
    ) {
        let Ok(arrival) = Arrival::of(&io) else { return };
        loop {
            let mut known = protocol.or_else(|| Protocol::of_first_bytes(&early));
            if known.is_none() || (early.is_empty() && known == Some(Protocol::Http1)) {
                let read = self.read_beginning(&mut io, early, protocol, wait, arrival);
                let Some(read) = Box::pin(read).await else { return };
                early = read;
                known = protocol.or_else(|| Protocol::of_first_bytes(&early));
            }
            if known == Some(Protocol::Http2) {
                return Box::pin(self.serve_http2(io, early, arrival)).await;
            }
            let mut answer = None;
            if let Some(mut request) = plain_request(&early) {
                arrival.annotate(&mut request, &self.proxies);
                let (keep_alive, coding) = (keeps_alive(&request), coding_for(&request));
                match self.dispatcher.dispatch(request).await {
                    Outcome::Response(response) => answer = Some(response),
                    Outcome::Handoff(handoff) => {
                        let pending = PendingHandoff { handoff, keep_alive, coding };
                        return hand_off(&self.shard, pending, io, &Bytes::new());
                    }
                }
            }
            // Its state is large, and most connections never need it.
            let served = Box::pin(self.serve_with_hyper(io, early, answer, arrival)).await;
            let Some(idle) = served else { return };
            // hyper has waited for a next request, and its buffers are given up.
            (io, early, protocol) = (idle, Bytes::new(), Some(Protocol::Http1));
            wait = self.keep_alive.saturating_sub(self.header_read_timeout);
        }
    }

    /// Reads the first bytes of a client: until there are some, and without a protocol until they say
    /// it or the client has ended its side. `None` if the connection is to be closed.
    async fn read_beginning(
        &self,
        io: &mut Socket,
        early: Bytes,
        protocol: Option<Protocol>,
        wait: Duration,
        arrival: Arrival,
    ) -> Option<Bytes> {
        let mut bytes = BytesMut::from(early);
        let mut timeout = pin!(sleep(wait));
        loop {
            let has_begun = !bytes.is_empty();
            let reading = async {
                // No buffer is needed before there is something to read.
                io.readable().await?;
                bytes.reserve(FIRST_BYTES_MAX);
                io.read_buf(&mut bytes).await
            };
            let read = tokio::select! {
                biased;
                read = reading => read.ok()?,
                () = &mut timeout => {
                    if has_begun {
                        self.hub.count_refused_request("slow_head", Some(arrival.peer()));
                    }
                    return None;
                }
                () = self.shutdown_requested(), if !has_begun => return None,
            };
            match read {
                0 => return has_begun.then(|| bytes.freeze()),
                _ if protocol.or_else(|| Protocol::of_first_bytes(&bytes)).is_some() => {
                    return Some(bytes.freeze());
                }
                _ => {}
            }
        }
    }

    /// Lets hyper read the requests of a connection. `early` was read already; the `answer` to the
    /// request in it is there, if it was plain. Gives the socket back if its client keeps it and has not
    /// begun a next request for as long as a head may take.
    async fn serve_with_hyper(
        &self,
        io: Socket,
        early: Bytes,
        answer: Option<Response<Body>>,
        arrival: Arrival,
    ) -> Option<Socket> {
        let progress = Rc::new(WriteProgress::new());
        let pending_handoff = Rc::default();
        let io = Rewind::new(io, early, Rc::clone(&progress));
        match self.parse(io, progress, &pending_handoff, answer, arrival).await {
            After::Closed => None,
            After::Idle(io) => Some(io),
            After::Handoff(io, early) => {
                let pending_handoff =
                    pending_handoff.borrow_mut().take().expect("it is why the socket is here");
                hand_off(&self.shard, pending_handoff, io, &early);
                None
            }
        }
    }

    /// Goes on with a connection on which a poll was answered. It has no buffers of the HTTP server
    /// before its client sends something: thousands are answered at once.
    pub(super) async fn serve_next(
        self: Rc<Self>,
        mut io: Socket,
        early: Bytes,
        held: HeldPermits,
    ) {
        if early.is_empty() {
            let is_there = tokio::select! {
                biased;
                readable = io.readable() => readable.is_ok(),
                () = sleep(self.keep_alive) => false,
                () = self.shutdown_requested() => false,
                () = self.shard.gone() => false,
            };
            if !is_there {
                return;
            }
        }
        let wait = self.keep_alive;
        self.serve(io, early, Some(Protocol::Http1), wait, held).await;
    }

    /// Sends the end of a last answer, of which some waits for the kernel to take it.
    pub(super) async fn flush_and_close(self: Rc<Self>, mut io: Socket, _held: HeldPermits) {
        tokio::select! {
            biased;
            flushed = tokio::time::timeout(self.write_stall, io.flush()) => {
                if matches!(flushed, Ok(Ok(()))) {
                    linger(io, LINGER).await;
                }
            }
            () = self.shard.gone() => {}
        }
    }

    /// Lets hyper serve the connection.
    async fn parse(
        &self,
        io: Rewind,
        progress: Rc<WriteProgress>,
        pending_handoff: &Rc<RefCell<Option<PendingHandoff>>>,
        answer: Option<Response<Body>>,
        arrival: Arrival,
    ) -> After {
        let mut stall = Stall::new(self.write_stall);
        let service = {
            let (pending_handoff, answer) = (Rc::clone(pending_handoff), Cell::new(answer));
            service_fn(move |mut request: Request<Incoming>| {
                // The first request is the one that it answers: it was plain.
                let (answer, pending_handoff) = (answer.take(), Rc::clone(&pending_handoff));
                Box::pin(async move {
                    let mut response = match answer {
                        Some(answer) => answer,
                        None => {
                            arrival.annotate(&mut request, &self.proxies);
                            respond_or_hand_off(&self.dispatcher, request, &pending_handoff).await
                        }
                    };
                    let ends_by_cut = response.extensions().get::<EndsByCut>().is_some();
                    if self.hub.is_draining() && !ends_by_cut {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(header::CONNECTION, close);
                    }
                    Ok::<_, Infallible>(response)
                })
            })
        };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_read_timeout)
            .max_headers(self.request_limits.fields_max as usize)
            .max_buf_size(buffer_bytes_max(&self.request_limits))
            // A publisher that shuts down its sending side (`nc -N`) still gets its answer.
            .half_close(true)
            .serve_connection(io, service);
        let mut shutdown_requested = pin!(self.shutdown_requested());
        let mut is_closing = false;
        let ended = poll_fn(|context| {
            loop {
                match connection.poll_without_shutdown(context) {
                    // hyper is done, but the end of its last answer waits in its buffer. It goes on
                    // with that each time.
                    Poll::Ready(Ok(())) if !progress.is_flushed() => {}
                    Poll::Ready(result) => return Poll::Ready(Ended::Over(result)),
                    Poll::Pending => {
                        if let Some(pending_handoff) = pending_handoff.borrow_mut().as_mut() {
                            if progress.is_flushed() {
                                return Poll::Ready(Ended::HandedOff);
                            }
                            // Earlier answers are not read: the replay permit is for clients that read.
                            pending_handoff.handoff.subscriber.replay = None;
                        }
                    }
                }
                if is_closing || shutdown_requested.as_mut().poll(context).is_pending() {
                    break;
                }
                is_closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            stall.poll(progress.pending(), context).map(|()| Ended::Stalled)
        })
        .await;
        match ended {
            Ended::HandedOff => {}
            Ended::Stalled => {
                self.budget.metrics().answers_stalled.inc();
                return After::Closed;
            }
            Ended::Over(result) => {
                let parts = connection.into_parts();
                let has_begun = !parts.read_buf.is_empty();
                let io = parts.io.into_inner().0;
                if let Err(error) = result {
                    if error.is_timeout() && !has_begun && !is_closing {
                        return After::Idle(io);
                    }
                    tracing::debug!(%error, "a connection ended with an error");
                    if let Some(bound) = bound_of_head(&error) {
                        self.hub.count_refused_request(bound, Some(arrival.peer()));
                    }
                }
                linger(io, if is_closing { Duration::ZERO } else { LINGER }).await;
                return After::Closed;
            }
        }
        let parts = connection.into_parts();
        let (io, unread) = parts.io.into_inner();
        let early = if unread.is_empty() {
            parts.read_buf
        } else {
            let mut both = BytesMut::from(&parts.read_buf[..]);
            both.extend_from_slice(&unread);
            both.freeze()
        };
        After::Handoff(io, early)
    }

    /// Completes when no connection is to be kept.
    pub(super) async fn shutdown_requested(&self) {
        let mut closing = self.closing.clone();
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

/// The response to a request. Its socket is handed off by way of `slot`.
async fn respond_or_hand_off(
    dispatcher: &Dispatcher,
    request: Request<Incoming>,
    slot: &RefCell<Option<PendingHandoff>>,
) -> Response<Body> {
    let (keep_alive, coding) = (keeps_alive(&request), coding_for(&request));
    match dispatcher.dispatch(request.map(Body::new)).await {
        Outcome::Response(response) => response,
        Outcome::Handoff(handoff) => {
            *slot.borrow_mut() = Some(PendingHandoff { handoff, keep_alive, coding });
            // hyper is not to answer; its connection is dropped at the next poll.
            pending().await
        }
    }
}

/// What the client of a new connection has said; nothing if it has ended, or takes its time. A
/// request mostly comes right behind its connection, so other tasks run and it is read again,
/// before the runtime is asked to watch.
async fn read_first_bytes(io: &mut Tcp) -> io::Result<Bytes> {
    for _ in 0..FIRST_READS_MAX {
        match io.read_unregistered(FIRST_BYTES_MAX) {
            Some(Err(error)) if is_retryable(&error) => yield_now().await,
            Some(read) => return read,
            None => break,
        }
    }
    Ok(Bytes::new())
}

fn is_retryable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The bound that hyper ended a connection for, in a word for metrics.
fn bound_of_head(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        return Some("slow_head");
    }
    error.is_parse_too_large().then_some("head_too_large")
}

/// Ends a connection whose client may still be sending: a socket closed with unread bytes is
/// reset, and the reset may overtake the last answer (RFC 9112, section 9.6).
async fn linger(mut io: Socket, wait: Duration) {
    let unheard = async {
        io.shutdown().await?;
        // Not in this future, which every connection has.
        let mut bytes = vec![0; LINGER_BYTES];
        loop {
            match io.read(&mut bytes).await? {
                0 => return Ok::<_, std::io::Error>(()),
                // A client that sends without a pause is throttled: its bytes are dropped.
                LINGER_BYTES => sleep(LINGER_PAUSE).await,
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(wait, unheard).await;
}

fn hand_off(shard: &LocalShard, pending_handoff: PendingHandoff, io: Socket, early: &Bytes) {
    let PendingHandoff { mut handoff, keep_alive, coding } = pending_handoff;
    let (head, ticket) = if handoff.is_poll {
        (Bytes::new(), Some(Handoff::ticket(&handoff.headers, keep_alive)))
    } else {
        handoff.subscriber.coding = coding;
        (Handoff::stream_head(&handoff.headers, coding), None)
    };
    shard.attach(handoff.subscriber, io, early, head, ticket);
}

/// Whether the connection outlives the answer to a request, as far as its client says.
fn keeps_alive<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(header::CONNECTION).iter();
    let mut options =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    request.version() == Version::HTTP_11
        && !options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// How the body of a stream to this client is delimited (RFC 9112, section 6.1).
fn coding_for<B>(request: &Request<B>) -> TransferCoding {
    match request.version() {
        Version::HTTP_11 => TransferCoding::Chunked,
        _ => TransferCoding::None,
    }
}

/// Bytes that the HTTP server may buffer for a head: the limit, with the bytes between the fields.
/// The routes check the limit exactly.
fn buffer_bytes_max(limits: &RequestLimits) -> usize {
    limits.head_bytes_max as usize + limits.fields_max as usize * ": \r\n".len() + LINE_BYTES
}

/// What is in a request's first line besides its target, and the empty line behind the fields.
const LINE_BYTES: usize = 64;
/// Bytes of a first read: a request of a browser has about half of that.
const FIRST_BYTES_MAX: usize = 2 * 1024;
/// How often a new connection's first bytes are looked for before the runtime watches for them.
const FIRST_READS_MAX: usize = 3;
/// How long a client may go on sending after its last answer before it is reset.
const LINGER: Duration = Duration::from_secs(2);
/// What is read of that at a time, and the pause after it: four megabytes a second at most. In
/// pieces of 4 KiB, a third of what the hub did under a flood of refused bodies was to read them.
const LINGER_BYTES: usize = 32 * 1024;
const LINGER_PAUSE: Duration = Duration::from_millis(8);
