//! Streams of all front doors: their admission, their response head, and rejections after which an
//! EventSource reconnects.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, Version, header},
    response::{IntoResponse, Response},
};

use super::{
    Problem,
    authorization::Action,
    call::{Call, Context, Next},
    event_headers::stream_headers,
    handoff::{Handoff, Outcome},
    incomplete_body::{EndsIncomplete, IncompleteBody},
    params,
    state::HttpState,
    weighted_list::weighted_names,
};
use crate::{
    hub::{StreamRequest, SubscribeError, Subscriber},
    model::comment_block,
};

/// A stream to open.
pub(super) struct OpenStream(StreamRequest);

impl OpenStream {
    /// Rejects a request that has a body.
    pub(super) fn new(context: &Context<'_>, stream: StreamRequest) -> Result<Self, Problem> {
        params::refuse_body(context.has_body)?;
        Ok(Self(stream))
    }
}

impl Call for OpenStream {
    fn action(&self) -> Action<'_> {
        Action::Subscribe(&self.0.subscription)
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        if context.is_head() {
            return Ok(Outcome::Response(with_stream_headers(Body::empty())).into());
        }
        let hub = &context.state.hub;
        let permit = match hub.replay_permit(&self.0.start).await {
            Ok(permit) => permit,
            Err(error) => return Ok(refuse(context, &error).into()),
        };
        hub.wait_for_capacity().await;
        let subscriber = match hub.admit_stream(self.0) {
            Ok(subscriber) => Subscriber { replay: permit, ..subscriber },
            Err(error) => return Ok(refuse(context, &error).into()),
        };
        if context.can_hand_off {
            return Ok(Outcome::Handoff(Handoff::new(subscriber, false)).into());
        }
        match hub.open(subscriber).await {
            Ok(body) => Ok(Outcome::Response(with_stream_headers(Body::new(body))).into()),
            Err(error) => Ok(refuse(context, &error).into()),
        }
    }
}

/// Rejects a stream: permanently with 204, or temporarily so that an EventSource reconnects.
fn refuse(context: &Context<'_>, error: &SubscribeError) -> Outcome {
    if !error.is_temporary() {
        // 204 tells an EventSource to stop (WHATWG HTML, 9.2.3).
        return Outcome::Response(StatusCode::NO_CONTENT.into_response());
    }
    let accepts_stream = accepts_stream(&context.parts.headers);
    let (problem, version) = (Problem::from(error.clone()), context.parts.version);
    let problem = problem.with_request_id(context.request_id);
    Outcome::Response(refuse_temporarily(context.state, accepts_stream, version, problem))
}

/// Whether `Accept` names `text/event-stream`.
pub(super) fn accepts_stream(headers: &HeaderMap) -> bool {
    names_stream(weighted_names(headers, header::ACCEPT))
}

/// Whether `text/event-stream` is among the accepted media types.
pub(super) fn names_stream<'a>(mut accepted: impl Iterator<Item = (&'a str, u16)>) -> bool {
    accepted.any(|(name, weight)| name.eq_ignore_ascii_case("text/event-stream") && weight > 0)
}

/// Rejects a request that may succeed later: with a problem document; or, if the client accepts
/// `text/event-stream`, with a stream that ends at once and incomplete, so that the client
/// reconnects.
pub(super) fn refuse_temporarily(
    state: &HttpState,
    accepts_stream: bool,
    version: Version,
    problem: Problem,
) -> Response {
    if !accepts_stream || state.settings.plain_refusals {
        return problem.into_response();
    }
    // An EventSource does not reconnect after any status but 200.
    let retry_ms = state.jittered_retry_ms();
    let block = comment_block(&format!("refused: {}", problem.detail()), retry_ms);
    if version != Version::HTTP_11 {
        return with_stream_headers(Body::from(block));
    }
    let mut response = with_stream_headers(Body::new(IncompleteBody::new(block)));
    response.extensions_mut().insert(EndsIncomplete);
    response
}

fn with_stream_headers(body: Body) -> Response {
    let mut response = Response::new(body);
    *response.headers_mut() = stream_headers();
    response
}
