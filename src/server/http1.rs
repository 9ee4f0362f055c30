//! The HTTP/1 server of a connection: hyper parses and answers; the socket of a stream or a waiting
//! poll is handed off to the shard, and hyper's buffers are freed.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{pending, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use hyper::{
    Request, Response, body::Incoming, header, header::HeaderValue, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioTimer;

use super::{
    arrival::Arrival,
    connection::Connections,
    linger::{LINGER, linger},
    pending_handoff::{PendingHandoff, coding_for, hand_off, keeps_alive},
    rewind::Rewind,
    write_progress::{Stall, WriteProgress},
};
use crate::{
    actors::Socket,
    core::RequestLimits,
    http::{Dispatcher, EndsByCut, Outcome},
};

/// How the HTTP server's part of a connection ended.
enum Ended {
    /// hyper has finished or failed.
    Over(hyper::Result<()>),
    /// The socket goes to a shard, for a stream or a waiting poll.
    HandedOff,
    /// The client does not read its answer.
    Stalled,
}

/// What becomes of the socket after hyper.
enum After {
    Closed,
    /// Kept alive, but no byte of a next request came within the header read timeout. The socket is
    /// watched without hyper, whose buffers are freed.
    Idle(Socket),
    /// A shard takes it, for a stream or a poll, with the bytes that hyper has read past the
    /// request.
    Handoff(Socket, Bytes),
}

impl Connections {
    /// Serves the requests of a connection with hyper. `early` are the bytes that were read before
    /// hyper started. If they hold a plain request, `answer` is the response to it, which hyper
    /// only writes. Returns the socket of a keep-alive connection on which no next request has
    /// begun within the header read timeout.
    pub(super) async fn serve_with_hyper(
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
                let pending_handoff = pending_handoff
                    .borrow_mut()
                    .take()
                    .expect("`After::Handoff` comes with a pending hand-off");
                hand_off(&self.shard, pending_handoff, io, &early);
                None
            }
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
                // A prepared answer belongs to the first request, which was plain.
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
                    // hyper has finished, but the end of its last answer is still in its buffer.
                    // Each further poll writes more of it.
                    Poll::Ready(Ok(())) if !progress.is_flushed() => {}
                    Poll::Ready(result) => return Poll::Ready(Ended::Over(result)),
                    Poll::Pending => {
                        if let Some(pending_handoff) = pending_handoff.borrow_mut().as_mut() {
                            if progress.is_flushed() {
                                return Poll::Ready(Ended::HandedOff);
                            }
                            // The client does not read the answers to its earlier requests, so it
                            // loses its replay permit to clients that do.
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
                    if let Some(bound) = head_limit_label(&error) {
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
}

/// The response to a request. For a hand-off it fills `pending_handoff` and never completes.
async fn respond_or_hand_off(
    dispatcher: &Dispatcher,
    request: Request<Incoming>,
    pending_handoff: &RefCell<Option<PendingHandoff>>,
) -> Response<Body> {
    let (keep_alive, coding) = (keeps_alive(&request), coding_for(&request));
    match dispatcher.dispatch(request.map(Body::new)).await {
        Outcome::Response(response) => response,
        Outcome::Handoff(handoff) => {
            *pending_handoff.borrow_mut() = Some(PendingHandoff { handoff, keep_alive, coding });
            // hyper must not answer: the poll above finds the hand-off and drops hyper's
            // connection.
            pending().await
        }
    }
}

/// The metric label of the limit on a request's head that made hyper end the connection.
fn head_limit_label(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        return Some("slow_head");
    }
    error.is_parse_too_large().then_some("head_too_large")
}

/// Bytes that hyper may buffer for a head: the limit, plus the separators between the fields. The
/// routes check the limit exactly.
fn buffer_bytes_max(limits: &RequestLimits) -> usize {
    limits.head_bytes_max as usize + limits.fields_max as usize * ": \r\n".len() + LINE_BYTES
}

/// Bytes of the request line beside its target, and of the empty line after the fields.
const LINE_BYTES: usize = 64;
