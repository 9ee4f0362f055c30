//! Serves one HTTP/2 connection with hyper, and closes it if the client exceeds a limit.

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

/// Why the hub closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseCause {
    /// The preface or a request head stayed incomplete for too long.
    SlowHead,
    /// The client has sent too many frames without content.
    Frames,
    /// The client has reset too many requests.
    Resets,
    /// The client reads nothing.
    WriteStalled,
}

impl CloseCause {
    /// The metric label.
    fn as_str(self) -> &'static str {
        match self {
            Self::SlowHead => "slow_head",
            Self::Frames => "frames",
            Self::Resets => "resets",
            Self::WriteStalled => "write_stalled",
        }
    }
}

impl Connections {
    /// Serves an HTTP/2 connection. `read_ahead` are bytes that were read from it already, such as
    /// its preface.
    pub(in crate::server) async fn serve_http2(
        &self,
        io: Socket,
        read_ahead: Bytes,
        arrival: Arrival,
    ) {
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
                // hyper gives the stream's task to the executor right after this call.
                let stream = streams.begin();
                Box::pin(respond(dispatcher.clone(), hub.clone(), shard.clone(), request, stream))
            })
        };
        let io = FramedIo::new(
            Rewind::new(io, read_ahead, Rc::clone(&progress)),
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
        // A GOAWAY lets open streams continue, and the client sends new requests on another
        // connection. A connection that is open when a drain begins gets its GOAWAY then. One that
        // is opened during the drain gets it after its first request: many clients give up a
        // connection that says GOAWAY before they have sent a request.
        let opened_during_drain = self.hub.is_draining();
        let mut shutdown = Box::pin(async {
            match opened_during_drain {
                false => self.hub.draining().await,
                true => self.shutdown_requested().await,
            }
        });
        let mut write_timer = Stall::new(self.write_stall);
        let mut head_timer = Stall::new(self.header_read_timeout);
        let mut idle_timer = Stall::new(Duration::from_secs(limits.idle_s.into()));
        let mut goaway_timer = Stall::new(GOAWAY_TIME);
        let mut goaway_sent = false;
        let ended = poll_fn(|context| {
            streams.watch(context);
            loop {
                let must_close = !goaway_sent
                    && (shutdown.as_mut().poll(context).is_ready()
                        || opened_during_drain && streams.opened() > 0);
                let is_idle = !goaway_sent && idle_timer.poll(streams.idle(), context).is_ready();
                if must_close || is_idle {
                    goaway_sent = true;
                    connection.as_mut().graceful_shutdown();
                }
                if let Poll::Ready(result) = connection.as_mut().poll(context) {
                    return Poll::Ready(Ok(result));
                }
                // This poll may have read the first request: then the GOAWAY is due at once.
                if goaway_sent || !opened_during_drain || streams.opened() == 0 {
                    break;
                }
            }
            if streams.resets() > limits.resets_max {
                return Poll::Ready(Err(CloseCause::Resets));
            }
            if frames.are_too_many() {
                return Poll::Ready(Err(CloseCause::Frames));
            }
            if head_timer.poll(frames.partial(), context).is_ready() {
                return Poll::Ready(Err(CloseCause::SlowHead));
            }
            if write_timer.poll(progress.pending(), context).is_ready() {
                return Poll::Ready(Err(CloseCause::WriteStalled));
            }
            // While no request is under way, nothing is lost if the hub closes a connection whose
            // client does not react to the GOAWAY.
            let idle_after_goaway = streams.idle().filter(|_| goaway_sent);
            goaway_timer.poll(idle_after_goaway, context).map(|()| Ok(Ok(())))
        })
        .await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "an HTTP/2 connection ended with an error");
                if let Some(label) = client_error_label(&error) {
                    self.hub.count_closed_http2(label, peer);
                }
            }
            Err(cause) => self.hub.count_closed_http2(cause.as_str(), peer),
        }
    }
}

/// The metric label, if h2 itself ended the connection for an error of the client. h2 reports
/// every limit of its own as `ENHANCE_YOUR_CALM` (RFC 9113, section 7).
fn client_error_label(error: &hyper::Error) -> Option<&'static str> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    let by_h2 = error.is_go_away() && error.is_library();
    let reason = error.reason().filter(|_| by_h2)?;
    Some(if reason == h2::Reason::ENHANCE_YOUR_CALM { "enhance_your_calm" } else { "protocol" })
}

/// The limit of a head as HPACK counts it: 32 bytes more for each field (RFC 7541, section 4.1),
/// also for the four pseudo-header fields. `check_head_size` applies the limit exactly.
fn head_bytes_max(limits: &RequestLimits) -> u32 {
    limits.head_bytes_max + (limits.fields_max + 4) * 32 + PSEUDO_HEADER_BYTES
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
        Outcome::Reply(reply) => reply.into_response(),
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
            // The dispatcher takes the memory permit of an answer, but had returned before this
            // one existed.
            let answer = match shard.attach_poll(subscriber).await {
                Ok(reply) => poll_response(headers.clone(), reply),
                Err(_) => poll_cut_short(),
            };
            let mut response = with_answer_permit(&hub, client, answer);
            add_missing_headers(headers, response.headers_mut());
            match record {
                None => response,
                Some(record) => log_answer(record, response),
            }
        }
    };
    Ok(response.map(|body| FlowControlledBody::new(body, stream)))
}

/// Adds the headers that the dispatcher prepared (`common`) to those of an answer that was made
/// later, whose own values win.
fn add_missing_headers(mut common: HeaderMap, headers: &mut HeaderMap) {
    common.extend(std::mem::take(headers));
    *headers = common;
}

/// Bytes of `:method`, `:scheme` and `:authority`, and of the names of all four pseudo-header
/// fields: the limit of the head does not count them.
const PSEUDO_HEADER_BYTES: u32 = 512;
/// Requests that a client may reset before h2 has handed them to hyper; with more the connection
/// is closed.
const PENDING_RESETS_MAX: usize = 20;
/// Streams that h2 resets for stream errors of the client; with more the connection is closed.
const ERROR_RESETS_MAX: usize = 100;
/// The smallest `SETTINGS_MAX_FRAME_SIZE` of the protocol (RFC 9113, section 6.5.2). With larger
/// frames one stream would delay the others of its connection.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of an answer that may wait in h2 for a client's flow-control windows.
const SEND_BUFFER_BYTES_MAX: usize = 16 * 1024;
/// How long an idle client may take to close its connection after a GOAWAY.
const GOAWAY_TIME: Duration = Duration::from_secs(2);
