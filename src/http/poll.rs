//! Long-polls, for every front door: answered at once, or taken to a shard to wait.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

use super::{
    HandoffRequest, Problem,
    handoff::{reply_status, set_reply_headers},
    routes::HttpState,
    stream::{HEADERS, ResponseContext, unsized_empty_body},
};
use crate::{
    hub::{PollNow, PollRequest},
    model::{PollAnswer, PollReply, Start},
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
        PollNow::Answer(answer) => return Ok(poll_response(request.encoding.encode(&answer))),
        PollNow::Wait(position) if request.wait.is_zero() => {
            let nothing = PollAnswer::nothing(position);
            return Ok(poll_response(request.encoding.encode(&nothing)));
        }
        PollNow::Wait(position) => request.start = Start::At(position),
    }
    state.hub.wait_for_capacity().await;
    let subscriber = state.hub.admit_poll(request)?;
    if context.handoff_allowed {
        let mut response = with_poll_headers(Response::new(Body::empty()));
        response.extensions_mut().insert(HandoffRequest::new(subscriber, true));
        return Ok(response);
    }
    Ok(poll_response(state.hub.wait_for_reply(subscriber).await?))
}

fn poll_response(reply: PollReply) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = reply_status(&reply);
    set_reply_headers(&reply, response.headers_mut());
    *response.body_mut() = Body::from(reply.body);
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
