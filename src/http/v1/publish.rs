//! `POST …/events`: one event, or a batch.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::envelope::parse_batch;
use crate::{
    core::IdempotencyKey,
    http::{
        Problem,
        authorization::Action,
        body::read_body,
        call::{Call, Context, Next},
        params::{Query, channel_in_path, channel_name, idempotency_key},
        weighted_list::split_unquoted,
    },
    hub::{BodyPermit, Publication, Published},
    model::{ChannelName, EventType, NewEvent, Position, RETRY_MS_MAX},
};

/// A publish, which is authorized in up to two steps. Before the body is read it is authorized for
/// the channel in the path or query, so that an unauthorized client sends no body. A batch whose
/// lines name channels is then authorized for all of them.
pub(in crate::http) enum Publish {
    Unread(Unread),
    Read(Read),
}

/// A publish whose body has not been read.
pub(in crate::http) struct Unread {
    body: Body,
    in_path: Option<ChannelName>,
    in_query: Option<ChannelName>,
    event_type: Option<EventType>,
    retry_ms: Option<u32>,
    is_batch: bool,
}

/// A publish with its parsed events.
pub(in crate::http) struct Read {
    events: Vec<(ChannelName, NewEvent)>,
    key: Option<IdempotencyKey>,
    is_batch: bool,
    /// The permit for the memory of the body, held until the publish is answered.
    _permit: BodyPermit,
}

/// Publishes to the channel in the path.
pub(in crate::http) fn channel(context: &Context<'_>, body: Body) -> Result<Publish, Problem> {
    read_head(context, body, Some(channel_in_path(context.parameter)?))
}

/// Publishes to the channel in the query, or to the channels that the lines of a batch name.
pub(in crate::http) fn many(context: &Context<'_>, body: Body) -> Result<Publish, Problem> {
    read_head(context, body, None)
}

impl Call for Publish {
    fn action(&self) -> Action<'_> {
        match self {
            Self::Unread(Unread { in_path: Some(channel), .. })
            | Self::Unread(Unread { in_query: Some(channel), .. }) => Action::Publish(channel),
            Self::Unread(_) => Action::PublishBatch(&[]),
            Self::Read(read) => Action::PublishBatch(&read.events),
        }
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let read = match self {
            Self::Unread(unread) => {
                let names_more = unread.is_batch && unread.in_path.is_none();
                let read = unread.read(context).await?;
                if names_more {
                    return Ok(Next::Authorize(Self::Read(read)));
                }
                read
            }
            Self::Read(read) => read,
        };
        let Read { events, key, is_batch, _permit } = read;
        let channel = events[0].0.clone();
        let publication = Publication { events, key, source: context.source() };
        let published = context.state.hub.publish_traced(publication, context.trace).await?;
        Ok(Next::response(answer(&published, &channel, is_batch)))
    }
}

fn read_head(
    context: &Context<'_>,
    body: Body,
    in_path: Option<ChannelName>,
) -> Result<Publish, Problem> {
    let headers = &context.parts.headers;
    let query = Query::of(&context.parts.uri)?;
    query.refuse_near_misses(&["channel", "type", "retry"])?;
    let in_query = query.one("channel")?.map(|text| channel_name("channel", text)).transpose()?;
    if in_path.is_some() && in_query.is_some() {
        return Err(Problem::field("channel", "the channel is in the path already"));
    }
    idempotency_key(headers)?;
    let event_type = query.one("type")?.map(EventType::parse).transpose();
    let event_type = event_type.map_err(|error| Problem::field("type", error.to_string()))?;
    let retry_ms = query.number("retry", 0, RETRY_MS_MAX)?;
    let is_batch = is_ndjson(headers)?;
    if is_batch && (event_type.is_some() || retry_ms.is_some()) {
        let field = if event_type.is_some() { "type" } else { "retry" };
        return Err(Problem::field(field, "each line of a batch has its own"));
    }
    Ok(Publish::Unread(Unread { body, in_path, in_query, event_type, retry_ms, is_batch }))
}

impl Unread {
    async fn read(self, context: &Context<'_>) -> Result<Read, Problem> {
        let Self { body, in_path, in_query, event_type, retry_ms, is_batch } = self;
        let events_max = context.state.hub.limits().publish.batch_events_max as usize;
        let lines_max = if is_batch { events_max } else { 0 };
        let (body, permit) =
            read_body(context.state, &context.parts.headers, body, lines_max).await?;
        let key = idempotency_key(&context.parts.headers)?.map(|key| {
            let subject = context.identity.scope();
            let channel = in_query.as_ref().map_or("", ChannelName::as_str);
            let event_type = event_type.as_ref().map_or("", EventType::as_str);
            let retry_ms = retry_ms.map(u32::to_le_bytes);
            IdempotencyKey::new(
                &[subject.as_bytes(), context.parts.uri.path().as_bytes(), key.as_bytes()],
                &[
                    body.as_bytes(),
                    &[u8::from(is_batch)],
                    channel.as_bytes(),
                    event_type.as_bytes(),
                    retry_ms.as_ref().map_or(&[], |bytes| bytes.as_slice()),
                ],
            )
        });
        let events = if is_batch {
            parse_batch(&body, in_path.as_ref(), in_query.as_ref(), events_max)?
        } else {
            let Some(channel) = in_path.or(in_query) else {
                return Err(Problem::field("channel", "name the channel to publish to"));
            };
            vec![(channel, NewEvent { data: body, event_type, retry_ms })]
        };
        Ok(Read { events, key, is_batch, _permit: permit })
    }
}

/// The answer to a publisher.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    One { id: Position, channel: &'a str },
    Batch { accepted: usize, first_id: Position, last_id: Position },
}

fn answer(published: &Published, channel: &ChannelName, is_batch: bool) -> Response {
    let (first_id, last_id) = (published.first, published.last);
    let answer = if is_batch {
        Answer::Batch { accepted: published.events, first_id, last_id }
    } else {
        Answer::One { id: last_id, channel: channel.as_str() }
    };
    let body = serde_json::to_vec(&answer).expect("numbers and text are always JSON");
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (StatusCode::CREATED, content_type, body).into_response();
    if published.replayed {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert("idempotent-replayed", yes);
    }
    response
}

/// Whether the media type is that of a batch. Two fields that do not agree on that are an error,
/// since it would be chance which of them counts.
fn is_ndjson(headers: &HeaderMap) -> Result<bool, Problem> {
    // A proxy may have joined two fields with a comma.
    let fields =
        headers.get_all(header::CONTENT_TYPE).iter().filter_map(|field| field.to_str().ok());
    let media_types = fields.flat_map(|field| split_unquoted(field, ','));
    let media_types = media_types.filter(|media_type| !media_type.trim().is_empty());
    let mut are_batches = media_types.map(|media_type| {
        let essence = media_type.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/x-ndjson")
    });
    let first = are_batches.next().unwrap_or(false);
    match are_batches.all(|other| other == first) {
        true => Ok(first),
        false => Err(Problem::field("Content-Type", "the body has two media types")),
    }
}
