//! `GET …/poll`: long-polling.

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::stream::subscription_in_path;
use crate::{
    core::Subscription,
    http::{
        Problem, authorization, params::Query, poll, routes::HttpState, stream::ResponseContext,
    },
    hub::PollRequest,
    model::EnvelopeAnswers,
};

/// One channel.
pub(in crate::http) async fn channel(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::of(request.uri())?;
    let subscription = subscription_in_path(&state, &request, &query)?;
    let (context, poll) = ask(&state, &request, &query, subscription)?;
    poll::respond(&state, &context, poll).await
}

/// Several channels and patterns.
pub(in crate::http) async fn many(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::of(request.uri())?;
    let subscription = query.subscription(state.hub.limits())?;
    let (context, poll) = ask(&state, &request, &query, subscription)?;
    poll::respond(&state, &context, poll).await
}

fn ask(
    state: &HttpState,
    request: &Request,
    query: &Query<'_>,
    subscription: Subscription,
) -> Result<(ResponseContext, PollRequest), Problem> {
    let context = ResponseContext::of(request)?;
    let identity = authorization::identity(state, request.extensions())?;
    authorization::authorize_subscribe(&identity, &subscription)?;
    let limits = state.hub.limits();
    let poll = PollRequest {
        subscription,
        start: query.start(request.headers(), true)?,
        encoding: &EnvelopeAnswers,
        wait: query.wait(limits)?,
        limit: query.number("limit", 1, limits.poll.limit_max)?.unwrap_or(limits.poll.limit),
        holder: authorization::holder(state, &identity),
        client: context.client,
    };
    Ok((context, poll))
}
