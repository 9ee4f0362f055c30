//! One connection: detects its protocol from the first bytes, answers a plain request without
//! hyper, and gives all other requests to hyper or the HTTP/2 server.

use std::{io, pin::pin, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    arrival::Arrival,
    idle_sockets::{FIRST_BYTES_MAX, IdleSockets},
    linger::{LINGER, linger},
    pending_handoff::{PendingHandoff, coding_for, hand_off, keeps_alive},
    plain::plain_request,
    preface::Protocol,
    socket_budget::{HeldPermits, SocketBudget},
    tls::Acceptor,
};
use crate::{
    actors::{LocalShard, Socket, Tcp},
    core::{Http2Limits, RequestLimits},
    http::{Dispatcher, Outcome, TrustedProxies, whole_answer},
    hub::Hub,
};

/// What all connections of a shard share.
pub(super) struct Connections {
    pub(super) hub: Hub,
    pub(super) dispatcher: Dispatcher,
    pub(super) shard: LocalShard,
    pub(super) header_read_timeout: Duration,
    /// How long a connection may stay idle after its last answer.
    pub(super) keep_alive: Duration,
    pub(super) closing: tokio::sync::watch::Receiver<bool>,
    /// How long a client may accept no byte of an answer.
    pub(super) write_stall: Duration,
    pub(super) budget: SocketBudget,
    pub(super) request_limits: RequestLimits,
    /// The TLS acceptor, if the listeners speak TLS.
    pub(super) tls: Option<Acceptor>,
    /// The trusted proxies.
    pub(super) proxies: TrustedProxies,
    /// The bounds of HTTP/2.
    pub(super) http2: Http2Limits,
    /// The sockets that wait for their next requests.
    pub(super) idle: IdleSockets,
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

    /// Serves a connection until it ends, its shard stops, or its socket is handed off. `early` are
    /// the bytes already read; without any, the client must send its first byte within `wait`. If
    /// `protocol` is not known, the first bytes decide it.
    pub(super) async fn serve(
        self: Rc<Self>,
        io: Socket,
        early: Bytes,
        protocol: Option<Protocol>,
        wait: Duration,
        held: HeldPermits,
    ) {
        tokio::select! {
            // Most connections are done at the first poll, so that comes before the end of the
            // shard.
            biased;
            () = Box::pin(self.serve_requests(io, early, protocol, wait, held)) => {}
            () = self.shard.gone() => {}
        }
    }

    async fn serve_requests(
        &self,
        mut io: Socket,
        mut early: Bytes,
        mut protocol: Option<Protocol>,
        mut wait: Duration,
        held: HeldPermits,
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
                let response = match self.dispatcher.dispatch(request).await {
                    Outcome::Response(response) => response,
                    Outcome::Handoff(handoff) => {
                        let pending = PendingHandoff { handoff, keep_alive, coding };
                        return hand_off(&self.shard, pending, io, &Bytes::new());
                    }
                };
                // A draining hub ends the connection, which hyper says and does.
                let whole = match self.hub.is_draining() {
                    true => Err(response),
                    false => whole_answer(response).await,
                };
                match whole {
                    Err(response) => answer = Some(response),
                    Ok(bytes) => {
                        if !self.write_answer(&mut io, bytes).await {
                            return;
                        }
                        if let Socket::Plain(io) = io {
                            return self.idle.watch(io, held);
                        }
                        (early, protocol) = (Bytes::new(), Some(Protocol::Http1));
                        wait = self.keep_alive;
                        continue;
                    }
                }
            }
            // Boxed: hyper's state is large, and most connections never need it.
            let served = Box::pin(self.serve_with_hyper(io, early, answer, arrival)).await;
            let Some(idle) = served else { return };
            // No next request came in time: hyper and its buffers are dropped, and the socket waits
            // without them.
            (io, early, protocol) = (idle, Bytes::new(), Some(Protocol::Http1));
            wait = self.keep_alive.saturating_sub(self.header_read_timeout);
        }
    }

    /// Writes an answer; false if the connection is to be closed, since it failed or the client does not
    /// read.
    async fn write_answer(&self, io: &mut Socket, mut answer: Bytes) -> bool {
        let written = loop {
            if answer.is_empty() {
                break timeout(self.write_stall, io.flush()).await;
            }
            match timeout(self.write_stall, io.write_buf(&mut answer)).await {
                Ok(Ok(0)) => return false,
                Ok(Ok(_)) => {}
                failed => break failed.map(|result| result.map(drop)),
            }
        };
        if written.is_err() {
            self.budget.metrics().answers_stalled.inc();
        }
        matches!(written, Ok(Ok(())))
    }

    /// Reads the first bytes of a client. If the protocol is not known, reads until the bytes
    /// decide it or the client shuts down its sending side. `None` if the connection is to be
    /// closed.
    async fn read_beginning(
        &self,
        io: &mut Socket,
        early: Bytes,
        protocol: Option<Protocol>,
        wait: Duration,
        arrival: Arrival,
    ) -> Option<Bytes> {
        let mut bytes = BytesMut::from(early);
        let mut late = pin!(sleep(wait));
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
                () = &mut late => {
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

    /// Writes the rest of a connection's last answer, which the kernel did not accept at once.
    pub(super) async fn flush_and_close(self: Rc<Self>, mut io: Socket, _held: HeldPermits) {
        tokio::select! {
            biased;
            flushed = timeout(self.write_stall, io.flush()) => {
                if matches!(flushed, Ok(Ok(()))) {
                    linger(io, LINGER).await;
                }
            }
            () = self.shard.gone() => {}
        }
    }

    /// Completes when idle connections are to be closed.
    pub(super) async fn shutdown_requested(&self) {
        let mut closing = self.closing.clone();
        let _ = closing.wait_for(|closing| *closing).await;
    }
}

/// Reads the first bytes of a new connection without waiting; empty if nothing has arrived. A
/// request mostly arrives right after its connection, so this yields to other tasks and tries again
/// a few times, before the socket is registered with the runtime.
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

/// How often a new socket is read before it is registered with the runtime.
const FIRST_READS_MAX: usize = 3;
