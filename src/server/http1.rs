//! Serves HTTP/1 requests with hyper, which parses them and writes the answers. If a request is
//! for a stream or a waiting poll, its socket is handed off to the shard, and hyper's buffers are
//! freed.

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
    http::{Dispatcher, EndsIncomplete, Outcome},
};

/// Why hyper stops serving a connection.
enum HyperEnd {
    /// hyper has finished or failed.
    Finished(hyper::Result<()>),
    /// A request is for a stream or a waiting poll, and all earlier answers are written.
    HandoffDue,
    /// The client does not read its answer.
    Stalled,
}

/// What happens to the socket after hyper is dropped.
enum NextStep {
    /// The socket is closed.
    Close,
    /// The client has kept the connection alive, but sent no byte of a next request within the
    /// header read timeout. The socket waits for one without hyper, whose buffers are freed.
    WaitIdle(Socket),
    /// The socket is handed off to the shard, with the bytes that hyper has read beyond the
    /// request.
    HandOff(Socket, Bytes),
}

impl Connections {
    /// Serves the requests of a connection with hyper. `read_ahead` are the bytes that were read
    /// before hyper starts. `answer` is the response to the request in these bytes, if the hub has
    /// parsed it itself (`plain_request`) and answered it already: hyper then only writes it.
    ///
    /// Returns the socket if the client keeps the connection alive, but no next request has begun
    /// within the header read timeout.
    pub(super) async fn serve_http1(
        &self,
        io: Socket,
        read_ahead: Bytes,
        answer: Option<Response<Body>>,
        arrival: Arrival,
    ) -> Option<Socket> {
        let progress = Rc::new(WriteProgress::new());
        let pending_handoff = Rc::default();
        let io = Rewind::new(io, read_ahead, Rc::clone(&progress));
        match self.run_hyper(io, progress, &pending_handoff, answer, arrival).await {
            NextStep::Close => None,
            NextStep::WaitIdle(io) => Some(io),
            NextStep::HandOff(io, read_ahead) => {
                let pending_handoff = pending_handoff
                    .borrow_mut()
                    .take()
                    .expect("`NextStep::HandOff` comes with a pending hand-off");
                hand_off(&self.shard, pending_handoff, io, &read_ahead);
                None
            }
        }
    }

    /// Runs hyper on the connection until hyper ends, the client stalls, or a hand-off is due.
    async fn run_hyper(
        &self,
        io: Rewind,
        progress: Rc<WriteProgress>,
        pending_handoff: &Rc<RefCell<Option<PendingHandoff>>>,
        answer: Option<Response<Body>>,
        arrival: Arrival,
    ) -> NextStep {
        let mut stall = Stall::new(self.write_stall);
        let service = {
            let (pending_handoff, answer) = (Rc::clone(pending_handoff), Cell::new(answer));
            service_fn(move |mut request: Request<Incoming>| {
                // The answer that was given belongs to the first request.
                let (answer, pending_handoff) = (answer.take(), Rc::clone(&pending_handoff));
                Box::pin(async move {
                    let mut response = match answer {
                        Some(answer) => answer,
                        None => {
                            arrival.annotate(&mut request, &self.proxies);
                            respond_or_hand_off(&self.dispatcher, request, &pending_handoff).await
                        }
                    };
                    let ends_incomplete = response.extensions().get::<EndsIncomplete>().is_some();
                    if self.hub.is_draining() && !ends_incomplete {
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
        let end = poll_fn(|context| {
            loop {
                match connection.poll_without_shutdown(context) {
                    // hyper has finished, but the end of its last answer is still in its buffer.
                    // Each further poll writes more of it.
                    Poll::Ready(Ok(())) if !progress.is_flushed() => {}
                    Poll::Ready(result) => return Poll::Ready(HyperEnd::Finished(result)),
                    Poll::Pending => {
                        if let Some(pending_handoff) = pending_handoff.borrow_mut().as_mut() {
                            if progress.is_flushed() {
                                return Poll::Ready(HyperEnd::HandoffDue);
                            }
                            // The client does not read the answers to its earlier requests. Its
                            // replay permit is released for clients that do read.
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
            stall.poll(progress.pending(), context).map(|()| HyperEnd::Stalled)
        })
        .await;
        match end {
            HyperEnd::HandoffDue => {}
            HyperEnd::Stalled => {
                self.budget.metrics().answers_stalled.inc();
                return NextStep::Close;
            }
            HyperEnd::Finished(result) => {
                let parts = connection.into_parts();
                let has_begun = !parts.read_buf.is_empty();
                let io = parts.io.into_inner().0;
                if let Err(error) = result {
                    if error.is_timeout() && !has_begun && !is_closing {
                        return NextStep::WaitIdle(io);
                    }
                    tracing::debug!(%error, "a connection ended with an error");
                    if let Some(bound) = head_limit_label(&error) {
                        self.hub.count_refused_request(bound, Some(arrival.peer()));
                    }
                }
                linger(io, if is_closing { Duration::ZERO } else { LINGER }).await;
                return NextStep::Close;
            }
        }
        let parts = connection.into_parts();
        let (io, unread) = parts.io.into_inner();
        let read_ahead = if unread.is_empty() {
            parts.read_buf
        } else {
            let mut both = BytesMut::from(&parts.read_buf[..]);
            both.extend_from_slice(&unread);
            both.freeze()
        };
        NextStep::HandOff(io, read_ahead)
    }
}

/// The response to a request. If the request is for a hand-off, fills `pending_handoff` and never
/// completes.
async fn respond_or_hand_off(
    dispatcher: &Dispatcher,
    request: Request<Incoming>,
    pending_handoff: &RefCell<Option<PendingHandoff>>,
) -> Response<Body> {
    let (keep_alive, coding) = (keeps_alive(&request), coding_for(&request));
    match dispatcher.dispatch(request.map(Body::new)).await {
        Outcome::Response(response) => response,
        Outcome::Reply(reply) => reply.into_response(),
        Outcome::Handoff(handoff) => {
            *pending_handoff.borrow_mut() = Some(PendingHandoff { handoff, keep_alive, coding });
            // hyper must not write an answer. `run_hyper` finds the hand-off after this poll, and
            // takes the socket from hyper.
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

/// Bytes that hyper may buffer for a head: the limit, and the separators in and between fields,
/// which the limit does not count. `check_head_size` applies the limit exactly.
fn buffer_bytes_max(limits: &RequestLimits) -> usize {
    limits.head_bytes_max as usize + limits.fields_max as usize * ": \r\n".len() + LINE_BYTES
}

/// Bytes of the request line without its target, and of the empty line after the fields.
const LINE_BYTES: usize = 64;
