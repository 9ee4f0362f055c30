//! Long-polls, for every front door: answered at once, or taken to a shard to wait.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

use super::{
    HandoffRequest, Problem,
    handoff::position_headers,
    routes::HttpState,
    stream::{HEADERS, ResponseContext, unsized_empty_body},
};
use crate::{
    hub::{PollNow, PollRequest},
    model::{PollAnswer, PollEncoding, Start},
};

/// Answers a poll, or lets it wait.
pub(super) async fn respond(
    state: &HttpState,
    context: &ResponseContext,
    mut request: PollRequest,
) -> Result<Response, Problem> {
    if context.is_head {
        return Ok(with_poll_headers(Response::new(unsized_empty_body())));
    }
    match state.hub.poll_now(&request).await? {
        PollNow::Answer(answer) => return Ok(poll_response(request.encoding, &answer)),
        PollNow::Wait(start) => request.start = start,
    }
    if request.wait.is_zero() {
        let Start::At(position) = request.start else { unreachable!("a wait has its position") };
        let nothing = PollAnswer { events: Vec::new(), position, gap: None };
        return Ok(poll_response(request.encoding, &nothing));
    }
    if context.handoff_allowed {
        state.hub.wait_for_capacity().await;
        let subscriber = state.hub.admit_poll(request)?;
        let mut response = with_poll_headers(Response::new(Body::empty()));
        response.extensions_mut().insert(HandoffRequest::new(subscriber, true));
        return Ok(response);
    }
    let encoding = request.encoding;
    let answer = state.hub.poll(request).await?;
    Ok(poll_response(encoding, &answer))
}

fn poll_response(encoding: &dyn PollEncoding, answer: &PollAnswer) -> Response {
    let reply = encoding.encode(answer);
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() =
        axum::http::StatusCode::from_u16(reply.status).expect("encodings give known statuses");
    if let Some(media_type) = reply.content_type {
        let value = HeaderValue::from_static(media_type);
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    position_headers(answer.position, response.headers_mut());
    with_poll_headers(response)
}

fn with_poll_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    for (name, value) in POLL_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const POLL_HEADERS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "0"),
];
