//! One connection: detects its protocol from the first bytes, dispatches a plain request without
//! hyper, and leaves all other requests to hyper (`http1`, `http2`).
//!
//! `serve_accepted` performs the TLS handshake. `serve_until_gone` serves
//! until the connection ends or its shard stops. `serve_requests` loops over the requests, and
//! `serve_http1` or `serve_http2` runs hyper.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWrite as _, AsyncWriteExt},
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
    socket_budget::{ConnectionPermits, SocketBudget},
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
    /// Becomes true when idle connections are to be closed.
    pub(super) closing: tokio::sync::watch::Receiver<bool>,
    /// How long the client may accept no byte of an answer before its connection is closed.
    pub(super) write_stall: Duration,
    pub(super) budget: SocketBudget,
    pub(super) request_limits: RequestLimits,
    /// `None` if the listeners do not speak TLS.
    pub(super) tls: Option<Acceptor>,
    pub(super) proxies: TrustedProxies,
    pub(super) http2: Http2Limits,
    /// The sockets that wait for their next requests.
    pub(super) idle: IdleSockets,
}

impl Connections {
    /// Serves a connection that was just accepted, after its TLS handshake if there is one.
    pub(super) async fn serve_accepted(self: Rc<Self>, mut io: Tcp, permits: ConnectionPermits) {
        let Some(tls) = &self.tls else {
            let Ok(read_ahead) = read_first_bytes(&mut io).await else { return };
            let timeout = self.header_read_timeout;
            return self.serve_until_gone(io.into(), read_ahead, None, timeout, permits).await;
        };
        let Ok(io) = io.into_tokio() else { return };
        let negotiated = tokio::select! {
            biased;
            negotiated = Box::pin(tls.handshake(io)) => negotiated,
            () = self.shutdown_requested() => None,
            () = self.shard.gone() => None,
        };
        if let Some((io, protocol)) = negotiated {
            let timeout = self.header_read_timeout;
            self.serve_until_gone(io, Bytes::new(), Some(protocol), timeout, permits).await;
        }
    }

    /// Serves a connection until it ends, its shard stops, or its socket is handed off.
    /// `read_ahead` are bytes that were read from it already; if they do not decide the protocol,
    /// the client must send enough for that within `beginning_timeout`. `negotiated` is the
    /// protocol that ALPN has chosen, or that earlier requests had; without it the first bytes
    /// decide. The permits are held until the end, or go to the idle sockets with the socket.
    pub(super) async fn serve_until_gone(
        self: Rc<Self>,
        io: Socket,
        read_ahead: Bytes,
        negotiated: Option<Protocol>,
        beginning_timeout: Duration,
        permits: ConnectionPermits,
    ) {
        tokio::select! {
            // The requests are polled first: most connections complete at that poll, and then the
            // end of the shard is not waited for at all.
            biased;
            () = Box::pin(
                self.serve_requests(io, read_ahead, negotiated, beginning_timeout, permits),
            ) => {}
            () = self.shard.gone() => {}
        }
    }

    /// Serves a socket that waited for its next request, as
    /// [`serve_until_gone`](Self::serve_until_gone) does. `request` has the bytes of the request
    /// that were read. The future is not boxed.
    pub(super) async fn serve_next(
        self: Rc<Self>,
        io: Tcp,
        request: Bytes,
        permits: ConnectionPermits,
    ) {
        let protocol = Some(Protocol::Http1);
        let mut serving =
            pin!(self.serve_requests(io.into(), request, protocol, self.keep_alive, permits));
        tokio::select! {
            biased;
            () = &mut serving => {}
            () = self.shard.gone() => {}
        }
    }

    async fn serve_requests(
        &self,
        mut io: Socket,
        mut read_ahead: Bytes,
        mut negotiated: Option<Protocol>,
        mut beginning_timeout: Duration,
        permits: ConnectionPermits,
    ) {
        let Ok(arrival) = Arrival::of(&io) else { return };
        loop {
            let mut protocol = negotiated.or_else(|| Protocol::of_first_bytes(&read_ahead));
            if protocol.is_none() || (read_ahead.is_empty() && protocol == Some(Protocol::Http1)) {
                let timeout = beginning_timeout;
                let read = self.read_beginning(&mut io, read_ahead, negotiated, timeout, arrival);
                let Some(read) = Box::pin(read).await else {
                    // Sends the close_notify of TLS, without which the client sees a truncation.
                    // Does not wait.
                    return linger(io, Duration::ZERO).await;
                };
                read_ahead = read;
                protocol = negotiated.or_else(|| Protocol::of_first_bytes(&read_ahead));
            }
            if protocol == Some(Protocol::Http2) {
                return Box::pin(self.serve_http2(io, read_ahead, arrival)).await;
            }
            let mut answer = None;
            if let Some(mut request) = plain_request(&read_ahead) {
                arrival.annotate(&mut request, &self.proxies);
                let (is_kept, coding) = (keeps_alive(&request), coding_for(&request));
                // Answers that only hyper can write are `Err`. While the hub drains these are all:
                // hyper adds `Connection: close` and closes the connection.
                let whole = match self.dispatcher.dispatch(request).await {
                    Outcome::Handoff(handoff) => {
                        let pending = PendingHandoff { handoff, keep_alive: is_kept, coding };
                        // The request was all of `read_ahead`.
                        return hand_off(&self.shard, pending, io, &Bytes::new());
                    }
                    Outcome::Reply(reply) if self.hub.is_draining() => Err(reply.into_response()),
                    Outcome::Reply(reply) => Ok(reply.into_bytes()),
                    Outcome::Response(response) if self.hub.is_draining() => Err(response),
                    Outcome::Response(response) => whole_answer(response).await,
                };
                match whole {
                    Err(response) => answer = Some(response),
                    Ok(bytes) => {
                        if !self.write_answer(&mut io, bytes).await {
                            return;
                        }
                        if let Socket::Plain(io) = io {
                            return self.idle.watch(io, permits);
                        }
                        (read_ahead, negotiated) = (Bytes::new(), Some(Protocol::Http1));
                        beginning_timeout = self.keep_alive;
                        continue;
                    }
                }
            }
            // Boxed: hyper's state is large, and most connections never need it.
            let served = Box::pin(self.serve_http1(io, read_ahead, answer, arrival)).await;
            let Some(idle) = served else { return };
            // No next request has come within the header read timeout, which counts as idle time.
            // hyper is dropped with its buffers, and the socket waits without them until the
            // keep-alive time is over.
            (io, read_ahead, negotiated) = (idle, Bytes::new(), Some(Protocol::Http1));
            beginning_timeout = self.keep_alive.saturating_sub(self.header_read_timeout);
        }
    }

    /// Writes an answer; false if the connection is to be closed, since it failed or the client
    /// does not read.
    async fn write_answer(&self, io: &mut Socket, mut answer: Bytes) -> bool {
        // Most answers are accepted at once, before there is a timer.
        let first = poll_fn(|context| {
            Poll::Ready(match Pin::new(&mut *io).poll_write(context, &answer) {
                Poll::Ready(written) => Some(written),
                Poll::Pending => None,
            })
        });
        match first.await {
            Some(Ok(bytes)) if bytes == answer.len() && matches!(io, Socket::Plain(_)) => {
                return true;
            }
            Some(Ok(bytes)) if bytes > 0 => answer.advance(bytes),
            Some(_) => return false,
            None => {}
        }
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

    /// Reads the first bytes of a request. Without a negotiated protocol, reads until the bytes
    /// decide it or the client shuts down its sending side. `None` if the connection is to be
    /// closed.
    async fn read_beginning(
        &self,
        io: &mut Socket,
        read_ahead: Bytes,
        negotiated: Option<Protocol>,
        timeout: Duration,
        arrival: Arrival,
    ) -> Option<Bytes> {
        let mut bytes = BytesMut::from(read_ahead);
        let mut late = pin!(sleep(timeout));
        loop {
            let has_begun = !bytes.is_empty();
            let reading = async {
                // No buffer is allocated before there is something to read.
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
                _ if negotiated.or_else(|| Protocol::of_first_bytes(&bytes)).is_some() => {
                    return Some(bytes.freeze());
                }
                _ => {}
            }
        }
    }

    /// Writes the rest of a connection's last answer, which the kernel did not accept at once, and
    /// closes the connection.
    pub(super) async fn flush_and_close(
        self: Rc<Self>,
        mut io: Socket,
        _permits: ConnectionPermits,
    ) {
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

/// Reads the first bytes of a new connection, without registering its socket with the runtime;
/// empty if nothing has arrived. A request mostly arrives right after its connection, so this tries
/// a few times, and yields to other tasks in between.
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

/// Attempts to read from a new socket before it is registered with the runtime.
const FIRST_READS_MAX: usize = 3;
