//! One HTTP/2 connection, until it ends or exceeds a limit.

use std::{
    convert::Infallible, error::Error as _, future::poll_fn, rc::Rc, sync::Arc, task::Poll,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::{
    HeaderMap, Request, Response, body::Incoming, server::conn::http2, service::service_fn,
};
use hyper_util::rt::TokioTimer;

use super::{
    flow_controlled_body::FlowControlledBody,
    frames::{FramedIo, Frames},
    streams::{OnShard, Stream, Streams},
};
use crate::{
    actors::{LocalShard, Socket},
    core::RequestLimits,
    http::{Dispatcher, Outcome, log_answer, poll_cut_short, poll_response, with_answer_permit},
    hub::Hub,
    model::ClientAddress,
    server::{
        arrival::Arrival,
        connection::Connections,
        rewind::Rewind,
        write_progress::{Stall, WriteProgress},
    },
    telemetry::Metrics,
};

/// Why the hub ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excess {
    /// The preface or a request head stayed incomplete for too long.
    SlowHead,
    /// Too many frames without content.
    Frames,
    /// Too many requests that the client reset.
    Resets,
    /// The client reads nothing.
    Stalled,
}

impl Excess {
    /// The metric label.
    fn as_str(self) -> &'static str {
        match self {
            Self::SlowHead => "slow_head",
            Self::Frames => "frames",
            Self::Resets => "resets",
            Self::Stalled => "write_stalled",
        }
    }
}

impl Connections {
    /// Serves an HTTP/2 connection; `early` are the bytes already read from it.
    pub(in crate::server) async fn serve_http2(&self, io: Socket, early: Bytes, arrival: Arrival) {
        let limits = &self.http2;
        let peer = arrival.peer();
        let metrics = self.budget.metrics();
        let (streams, frames) = (Rc::new(Streams::default()), Rc::new(Frames::default()));
        let progress = Rc::new(WriteProgress::new());
        let on_shard = OnShard {
            streams: Rc::clone(&streams),
            write_stall: self.write_stall,
            metrics: Arc::clone(metrics),
        };
        let service = {
            let (streams, dispatcher) = (Rc::clone(&streams), self.dispatcher.clone());
            let (hub, shard, proxies) =
                (self.hub.clone(), self.shard.clone(), self.proxies.clone());
            service_fn(move |mut request| {
                arrival.annotate(&mut request, &proxies);
                // hyper spawns the stream's task right after this call.
                let stream = streams.begin();
                Box::pin(respond(dispatcher.clone(), hub.clone(), shard.clone(), request, stream))
            })
        };
        let io = FramedIo::new(
            Rewind::new(io, early, Rc::clone(&progress)),
            Rc::clone(&progress),
            Rc::clone(&frames),
            limits.frames_max,
        );
        let mut connection = Box::pin(
            http2::Builder::new(on_shard)
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.streams_max)
                .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
                .max_local_error_reset_streams(ERROR_RESETS_MAX)
                .max_header_list_size(head_bytes_max(&self.request_limits))
                .max_frame_size(FRAME_BYTES_MAX)
                .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
                .initial_stream_window_size(limits.window_bytes)
                .initial_connection_window_size(limits.connection_window_bytes)
                .keep_alive_interval(Duration::from_secs(limits.keep_alive_s.into()))
                .keep_alive_timeout(Duration::from_secs(limits.keep_alive_timeout_s.into()))
                .serve_connection(io, service),
        );
        let _open = Open::count(metrics);
        // Open streams go on; the client sends new requests on another connection. On one that is opened during
        // the drain the GOAWAY comes after the first request, since many clients send none after a GOAWAY.
        let is_late = self.hub.is_draining();
        let mut asked_to_close = Box::pin(async {
            match is_late {
                false => self.hub.draining().await,
                true => self.shutdown_requested().await,
            }
        });
        let mut written = Stall::new(self.write_stall);
        let mut heads = Stall::new(self.header_read_timeout);
        let mut idle = Stall::new(Duration::from_secs(limits.idle_s.into()));
        let mut goaway = Stall::new(GOAWAY_TIME);
        let mut is_closing = false;
        let ended = poll_fn(|context| {
            streams.watch(context);
            loop {
                let is_asked = !is_closing
                    && (asked_to_close.as_mut().poll(context).is_ready()
                        || is_late && streams.opened() > 0);
                let is_idle = !is_closing && idle.poll(streams.idle(), context).is_ready();
                if is_asked || is_idle {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                if let Poll::Ready(result) = connection.as_mut().poll(context) {
                    return Poll::Ready(Ok(result));
                }
                if is_closing || !is_late || streams.opened() == 0 {
                    break;
                }
            }
            if streams.resets() > limits.resets_max {
                return Poll::Ready(Err(Excess::Resets));
            }
            if frames.are_too_many() {
                return Poll::Ready(Err(Excess::Frames));
            }
            if heads.poll(frames.partial(), context).is_ready() {
                return Poll::Ready(Err(Excess::SlowHead));
            }
            if written.poll(progress.pending(), context).is_ready() {
                return Poll::Ready(Err(Excess::Stalled));
            }
            // No request is under way, so nothing is lost if the client does not react to the
            // GOAWAY.
            let is_left = streams.idle().filter(|_| is_closing);
            goaway.poll(is_left, context).map(|()| Ok(Ok(())))
        })
        .await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "an HTTP/2 connection ended with an error");
                if let Some(reason) = broken_rule(&error) {
                    self.hub.count_closed_http2(reason, peer);
                }
            }
            Err(excess) => self.hub.count_closed_http2(excess.as_str(), peer),
        }
    }
}

/// The metric label if h2 itself ended the connection for a mistake of the client. h2 reports all
/// of its own limits with one error code (RFC 9113, section 7).
fn broken_rule(error: &hyper::Error) -> Option<&'static str> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    let is_own = error.is_go_away() && error.is_library();
    let reason = error.reason().filter(|_| is_own)?;
    Some(if reason == h2::Reason::ENHANCE_YOUR_CALM { "enhance_your_calm" } else { "protocol" })
}

/// Bytes of a head as HPACK counts them: 32 more for each field (RFC 7541, section 4.1), method,
/// scheme, authority and target among them. The routes check it exactly.
fn head_bytes_max(limits: &RequestLimits) -> u32 {
    limits.head_bytes_max + (limits.fields_max + 4) * 32 + LINE_BYTES
}

/// Counts an open connection until it is dropped.
struct Open(Arc<Metrics>);

impl Open {
    fn count(metrics: &Arc<Metrics>) -> Self {
        metrics.http2_connections.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.http2_connections.dec();
    }
}

async fn respond(
    dispatcher: Dispatcher,
    hub: Hub,
    shard: LocalShard,
    request: Request<Incoming>,
    stream: Rc<Stream>,
) -> Result<Response<FlowControlledBody>, Infallible> {
    let client = request.extensions().get::<ClientAddress>().copied();
    let response = match dispatcher.dispatch(request.map(Body::new)).await {
        Outcome::Response(response) => response,
        Outcome::Handoff(handoff) if !handoff.is_poll => {
            let headers = handoff.headers();
            let mut response = Response::new(Body::new(shard.attach_body(handoff.subscriber)));
            *response.headers_mut() = headers;
            response
        }
        Outcome::Handoff(handoff) => {
            let headers = handoff.headers();
            let mut subscriber = handoff.subscriber;
            let record = subscriber.record.take();
            // The answer of a waiting poll takes its memory permit here, since the dispatcher had
            // returned before it was there.
            let answer = match shard.attach_poll(subscriber).await {
                Ok(reply) => poll_response(headers.clone(), reply),
                Err(_) => poll_cut_short(),
            };
            let mut response = with_answer_permit(&hub, client, answer);
            keep_headers(headers, response.headers_mut());
            match record {
                None => response,
                Some(record) => log_answer(record, response),
            }
        }
    };
    Ok(response.map(|body| FlowControlledBody::new(body, stream)))
}

/// Adds the headers of every answer to one that was made after the dispatcher had returned.
fn keep_headers(mut of_all: HeaderMap, headers: &mut HeaderMap) {
    of_all.extend(std::mem::take(headers));
    *headers = of_all;
}

/// HPACK bytes of `:method`, `:scheme` and `:authority`, and of the names of all four
/// pseudo-fields.
const LINE_BYTES: u32 = 512;
/// Requests reset before they are handed out; more end the connection.
const PENDING_RESETS_MAX: usize = 20;
/// Streams that the hub resets for a client's mistakes; more end the connection.
const ERROR_RESETS_MAX: usize = 100;
/// The smallest maximum frame size of the protocol; with larger frames one stream delays the
/// others.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of an answer that wait in h2 for a client's windows.
const SEND_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// How long an idle client has to react to a GOAWAY.
const GOAWAY_TIME: Duration = Duration::from_secs(2);
