//! `POST …/events`: one event, or a batch.

use std::{
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{envelope::parse_batch, stream::path_channel};
use crate::{
    core::IdempotencyKey,
    http::{
        Problem, authorization,
        body::read_body,
        params::{Query, channel_name, idempotency_key},
        routes::HttpState,
    },
    hub::{Publication, Published},
    model::{ChannelName, EventType, NewEvent},
};

/// To the channel in the path.
pub(in crate::http) async fn channel(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    let name = channel_name("channel", &path_channel(&request)?)?;
    accept(&state, request, Some(name)).await
}

/// To the channel in the query, or of each line of a batch.
pub(in crate::http) async fn many(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Response, Problem> {
    accept(&state, request, None).await
}

async fn accept(
    state: &HttpState,
    request: Request,
    in_path: Option<ChannelName>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let identity = authorization::identity(state, &parts.extensions)?;
    let query = Query::of(&parts.uri)?;
    let in_query = query.one("channel")?.map(|text| channel_name("channel", text)).transpose()?;
    if in_path.is_some() && in_query.is_some() {
        return Err(Problem::field("channel", "the channel is in the path already"));
    }
    // Before the body is asked for; a batch may name more channels.
    for channel in in_path.iter().chain(&in_query) {
        authorization::authorize_publish(&identity, channel)?;
    }
    let key = idempotency_key(&parts.headers)?;
    let event_type = query.one("type")?.map(EventType::parse).transpose();
    let event_type = event_type.map_err(|error| Problem::field("type", error.to_string()))?;
    let retry_ms = query.number("retry", 0, u32::MAX)?;
    let is_batch = is_ndjson(&parts.headers);
    if is_batch && (event_type.is_some() || retry_ms.is_some()) {
        let field = if event_type.is_some() { "type" } else { "retry" };
        return Err(Problem::field(field, "each line of a batch has its own"));
    }
    let (body, _room) = read_body(state, body).await?;

    let key = key.map(|key| {
        let sent = (&body, is_batch, in_query.as_ref(), event_type.as_ref(), retry_ms);
        let scope = format!("{} {} {key}", identity.scope(), parts.uri.path());
        IdempotencyKey { scope, fingerprint: FINGERPRINTS.hash_one(sent) }
    });
    let events = if is_batch {
        let events_max = state.hub.limits().publish.batch_events_max as usize;
        parse_batch(&body, in_path.as_ref(), in_query.as_ref(), events_max)?
    } else {
        let Some(channel) = in_path.or(in_query) else {
            return Err(Problem::field("channel", "name the channel to publish to"));
        };
        vec![(channel, NewEvent { data: body, event_type, retry_ms })]
    };
    for (index, (channel, _)) in events.iter().enumerate() {
        if index == 0 || *channel != events[index - 1].0 {
            authorization::authorize_publish(&identity, channel)?;
        }
    }
    let channel = events[0].0.clone();
    let source = authorization::source(&identity, &parts.extensions);
    let published = state.hub.publish(Publication { events, key, source }).await?;
    Ok(answer(&published, &channel, is_batch))
}

/// What a publisher is told.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    One { id: String, channel: &'a str },
    Batch { accepted: usize, first_id: String, last_id: String },
}

fn answer(published: &Published, channel: &ChannelName, is_batch: bool) -> Response {
    let (first_id, last_id) = (published.first.to_string(), published.last.to_string());
    let body = if is_batch {
        Json(Answer::Batch { accepted: published.events, first_id, last_id })
    } else {
        Json(Answer::One { id: last_id, channel: channel.as_str() })
    };
    let mut response = (StatusCode::CREATED, body).into_response();
    if published.replayed {
        let yes = axum::http::HeaderValue::from_static("true");
        response.headers_mut().insert("idempotent-replayed", yes);
    }
    response
}

fn is_ndjson(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/x-ndjson")
    })
}

/// Tells bodies apart, with keys that nobody outside can guess collisions for.
static FINGERPRINTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
