//! `GET …/poll`: long-polling.

use crate::{
    core::Subscription,
    http::{Problem, authentication::holder, call::Context, params::Query, poll::OpenPoll},
    hub::PollRequest,
    model::EnvelopeAnswers,
};

/// Polls one channel.
pub(in crate::http) fn channel(context: &Context<'_>) -> Result<OpenPoll, Problem> {
    let query = Query::of(&context.parts.uri)?;
    let limits = context.state.hub.limits();
    let subscription = query.subscription_in_path(context.parameter, &limits)?;
    read(context, &query, subscription)
}

/// Polls several channels and patterns.
pub(in crate::http) fn many(context: &Context<'_>) -> Result<OpenPoll, Problem> {
    let query = Query::of(&context.parts.uri)?;
    let subscription = query.subscription(&context.state.hub.limits())?;
    read(context, &query, subscription)
}

fn read(
    context: &Context<'_>,
    query: &Query<'_>,
    subscription: Subscription,
) -> Result<OpenPoll, Problem> {
    let limits = context.state.hub.limits();
    let poll = PollRequest {
        subscription,
        start: query.start(&context.parts.headers, true)?,
        encoding: &EnvelopeAnswers,
        wait: query.wait(&limits)?,
        limit: query.number("limit", 1, limits.poll.limit_max)?.unwrap_or(limits.poll.limit),
        holder: holder(context.state, &context.identity),
        client: context.client,
    };
    OpenPoll::new(context, poll)
}
