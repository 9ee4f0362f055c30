//! `GET …/events`: Server-Sent Events.

use axum::{
    extract::{Request, State},
    response::Response,
};

use crate::{
    core::Subscription,
    http::{
        Problem, authorization,
        params::{Query, channel_in_path},
        routes::HttpState,
        stream::{self, ResponseContext},
    },
    hub::StreamRequest,
    model::{ChannelSelector, EnvelopeEncoding, EventEncoding, MessageEncoding},
};

/// One channel.
pub(in crate::http) async fn channel(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::of(request.uri())?;
    let subscription = subscription_in_path(&state, &request, &query)?;
    let (context, stream) = ask(&state, &request, &query, subscription)?;
    Ok(stream::respond(&state, &context, stream).await)
}

/// Several channels and patterns.
pub(in crate::http) async fn many(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::of(request.uri())?;
    let subscription = query.subscription(state.hub.limits())?;
    let (context, stream) = ask(&state, &request, &query, subscription)?;
    Ok(stream::respond(&state, &context, stream).await)
}

/// The channel or pattern in the path of a request, as a subscription.
pub(super) fn subscription_in_path(
    state: &HttpState,
    request: &Request,
    query: &Query<'_>,
) -> Result<Subscription, Problem> {
    let selector = ChannelSelector::parse(&path_channel(request)?)
        .map_err(|error| Problem::field("channel", error.to_string()))?;
    query.subscription_to(vec![selector], state.hub.limits())
}

/// The third part of `/v1/channels/{channel}/…`, decoded.
pub(super) fn path_channel(request: &Request) -> Result<String, Problem> {
    channel_in_path(request.uri().path().split('/').nth(3).unwrap_or_default())
}

fn ask(
    state: &HttpState,
    request: &Request,
    query: &Query<'_>,
    subscription: Subscription,
) -> Result<(ResponseContext, StreamRequest), Problem> {
    let context = ResponseContext::of(request)?;
    let identity = authorization::identity(state, request.extensions())?;
    authorization::authorize_subscribe(&identity, &subscription)?;
    let encoding: Option<&'static dyn EventEncoding> = match query.one("format")? {
        None | Some("data") => None,
        Some("envelope") => Some(&EnvelopeEncoding),
        Some("message") => Some(&MessageEncoding),
        Some(_) => {
            return Err(Problem::field("format", "`format` is `data`, `envelope` or `message`"));
        }
    };
    let stream = StreamRequest {
        subscription,
        start: query.start(request.headers(), false)?,
        encoding,
        policy: query.slow_policy()?,
        hello: query.switch("hello")?,
        retry_ms: None,
        holder: authorization::holder(state, &identity),
        client: context.client,
    };
    Ok((context, stream))
}
