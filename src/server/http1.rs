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

impl Connections {
    /// Lets hyper read the requests of a connection. `early` was read already; the `answer` to the
    /// request in it is there, if it was plain. Gives the socket back if its client keeps it and has not
    /// begun a next request for as long as a head may take.
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
                let pending_handoff =
                    pending_handoff.borrow_mut().take().expect("it is why the socket is here");
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

/// The bound that hyper ended a connection for, in a word for metrics.
fn bound_of_head(error: &hyper::Error) -> Option<&'static str> {
    if error.is_timeout() {
        return Some("slow_head");
    }
    error.is_parse_too_large().then_some("head_too_large")
}

/// Bytes that the HTTP server may buffer for a head: the limit, with the bytes between the fields.
/// The routes check the limit exactly.
fn buffer_bytes_max(limits: &RequestLimits) -> usize {
    limits.head_bytes_max as usize + limits.fields_max as usize * ": \r\n".len() + LINE_BYTES
}

/// What is in a request's first line besides its target, and the empty line behind the fields.
const LINE_BYTES: usize = 64;
