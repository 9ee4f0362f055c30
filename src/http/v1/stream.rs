//! `GET …/events`: Server-Sent Events.

use crate::{
    core::Subscription,
    http::{
        Problem,
        authentication::holder,
        call::Context,
        params::{Query, STREAM_PARAMETERS},
        stream::OpenStream,
    },
    hub::StreamRequest,
    model::{EnvelopeEncoding, Framing, MessageEncoding},
};

/// Streams one channel.
pub(in crate::http) fn channel(context: &Context<'_>) -> Result<OpenStream, Problem> {
    let query = Query::of(&context.parts.uri)?;
    let limits = context.state.hub.limits();
    let subscription = query.subscription_in_path(context.parameter, &limits)?;
    read(context, &query, subscription)
}

/// Streams several channels and patterns.
pub(in crate::http) fn many(context: &Context<'_>) -> Result<OpenStream, Problem> {
    let query = Query::of(&context.parts.uri)?;
    let subscription = query.subscription(&context.state.hub.limits())?;
    read(context, &query, subscription)
}

fn read(
    context: &Context<'_>,
    query: &Query<'_>,
    subscription: Subscription,
) -> Result<OpenStream, Problem> {
    let framing: Option<&'static dyn Framing> = match query.one("format")? {
        None | Some("data") => None,
        Some("envelope") => Some(&EnvelopeEncoding),
        Some("message") => Some(&MessageEncoding),
        Some(_) => {
            return Err(Problem::field("format", "`format` is `data`, `envelope` or `message`"));
        }
    };
    let stream = StreamRequest {
        subscription,
        start: query.start(&context.parts.headers, false)?,
        framing,
        policy: query.slow_policy()?,
        hello: query.switch("hello")?,
        retry_ms: None,
        comment: query.near_miss_comment(&KNOWN),
        holder: holder(context.state, &context.identity),
        client: context.client,
    };
    OpenStream::new(context, stream)
}

/// The parameters of a stream.
const KNOWN: [&str; 10] = {
    let [last, last_event_id, camel, capitals, token] = STREAM_PARAMETERS;
    ["channel", "type", "format", "hello", "slow", last, last_event_id, camel, capitals, token]
};
