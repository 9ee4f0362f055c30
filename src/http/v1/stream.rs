//! `GET …/events`: Server-Sent Events.

use crate::{
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

/// Streams the channel or pattern in the path, or those that the query names.
pub(in crate::http) fn open(
    context: &Context<'_>,
    in_path: Option<&str>,
) -> Result<OpenStream, Problem> {
    let query = Query::of(&context.parts.uri)?;
    let subscription = query.subscription(in_path, &context.state.hub.limits())?;
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
