//! `GET …/poll`: long-polling.

use crate::{
    http::{Problem, authentication::holder, call::Context, params::Query, poll::OpenPoll},
    hub::PollRequest,
    model::EnvelopeAnswers,
};

/// Polls the channel or pattern in the path, or those that the query names.
pub(in crate::http) fn open(
    context: &Context<'_>,
    in_path: Option<&str>,
) -> Result<OpenPoll, Problem> {
    let query = Query::of(&context.parts.uri)?;
    let limits = context.state.hub.limits();
    let poll = PollRequest {
        subscription: query.subscription(in_path, &limits)?,
        start: query.start(&context.parts.headers, true)?,
        encoding: &EnvelopeAnswers,
        wait: query.wait(&limits)?,
        limit: query.number("limit", 1, limits.poll.limit_max)?.unwrap_or(limits.poll.limit),
        holder: holder(context.state, &context.identity),
        client: context.client,
    };
    OpenPoll::new(context, poll)
}
