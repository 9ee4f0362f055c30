//! Streams, for every front door: admission, the response, rejections that EventSource survives.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body::{Body as _, Frame};

use super::{HandoffAllowed, HandoffRequest, Problem, params, routes::HttpState};
use crate::{
    hub::{StreamRequest, SubscribeError, Subscriber},
    model::{ClientAddress, comment_block},
};

/// What a stream's response needs to know of its request.
#[derive(Debug)]
pub(super) struct ResponseContext {
    /// Whether it accepts `text/event-stream`.
    pub(super) accepts_stream: bool,
    pub(super) is_head: bool,
    pub(super) handoff_allowed: bool,
    pub(super) client: Option<ClientAddress>,
}

impl ResponseContext {
    /// Looks at a request for a stream or a poll; one with a body is refused.
    pub(super) fn of(request: &Request) -> Result<Self, Problem> {
        params::refuse_body(!request.body().is_end_stream())?;
        Ok(Self {
            accepts_stream: accepts_stream(request.headers()),
            is_head: request.method() == Method::HEAD,
            handoff_allowed: request.extensions().get::<HandoffAllowed>().is_some(),
            client: request.extensions().get::<ClientAddress>().copied(),
        })
    }
}

/// Opens a stream, or refuses it in a way the client understands.
pub(super) async fn respond(
    state: &HttpState,
    context: &ResponseContext,
    request: StreamRequest,
) -> Response {
    if context.is_head {
        return with_stream_headers(unsized_empty_body());
    }
    let permit = match state.hub.replay_permit(&request.start).await {
        Ok(permit) => permit,
        Err(error) => return refuse(state, context, &error),
    };
    state.hub.wait_for_capacity().await;
    let admitted = state.hub.admit_stream(request);
    let subscriber = match admitted {
        Ok(subscriber) => Subscriber { replay: permit, ..subscriber },
        Err(error) => return refuse(state, context, &error),
    };
    if context.handoff_allowed {
        let mut response = with_stream_headers(Body::empty());
        response.extensions_mut().insert(HandoffRequest::new(subscriber, false));
        return response;
    }
    match state.hub.open(subscriber).await {
        Ok(body) => with_stream_headers(Body::new(body)),
        Err(error) => refuse(state, context, &error),
    }
}

fn refuse(state: &HttpState, context: &ResponseContext, error: &SubscribeError) -> Response {
    if !error.is_temporary() {
        // 204 tells an EventSource to stop (WHATWG HTML, 9.2.3).
        return StatusCode::NO_CONTENT.into_response();
    }
    refuse_temporarily(state, context.accepts_stream, Problem::from(error.clone()))
}

/// Whether a client reads `text/event-stream`, as far as it says.
pub(super) fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter();
    accepts
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("text/event-stream"))
}

/// Refuses what may succeed later, with a problem for those who do not ask for a stream.
pub(super) fn refuse_temporarily(
    state: &HttpState,
    accepts_stream: bool,
    problem: Problem,
) -> Response {
    if !accepts_stream || state.settings.plain_refusals {
        return problem.into_response();
    }
    // A browser gives up for good on any status but 200.
    let retry_ms = state.jittered_retry_ms();
    with_stream_headers(Body::from(comment_block(
        &format!("refused: {}", problem.detail()),
        retry_ms,
    )))
}

/// For answers to HEAD where the answer to GET has no length, or none that is known: an empty body
/// would be announced as one of no bytes.
pub(super) fn unsized_empty_body() -> Body {
    struct Unknown;

    impl http_body::Body for Unknown {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
    }

    Body::new(Unknown)
}

fn with_stream_headers(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    for (name, value) in STREAM_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) const STREAM_HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "private, no-cache, no-store, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];
/// Room for the fields of a stream's or a poll's response, with those that all answers have.
pub(super) const HEADERS: usize = 8;
