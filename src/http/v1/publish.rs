//! `POST …/events`: one event, or a batch.

use std::{
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
    time::Duration,
};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::task::yield_now;

use super::{envelope::parse_batch, stream::path_channel};
use crate::{
    core::IdempotencyKey,
    http::{
        Problem, gate,
        params::{Query, channel_name, idempotency_key},
        routes::HttpState,
    },
    hub::{BodyRoom, Publication, Published},
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
    let identity = gate::identity(state, &parts.extensions)?;
    let query = Query::of(&parts.uri)?;
    let in_query = query.one("channel")?.map(|text| channel_name("channel", text)).transpose()?;
    if in_path.is_some() && in_query.is_some() {
        return Err(Problem::field("channel", "the channel is in the path already"));
    }
    // Before the body is asked for; a batch may name more channels.
    for channel in in_path.iter().chain(&in_query) {
        gate::permit_publish(&identity, channel)?;
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
            gate::permit_publish(&identity, channel)?;
        }
    }
    let channel = events[0].0.clone();
    let source = gate::source(&identity, &parts.extensions);
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

/// Reads a whole body within the bounds on its size, its time, and all bodies together, as text. The
/// room it takes is to be kept until the publish is answered.
pub(in crate::http) async fn read_body(
    state: &HttpState,
    mut body: axum::body::Body,
) -> Result<(String, BodyRoom), Problem> {
    let bytes_max = state.hub.limits().publish.body_bytes_max;
    let too_large = || {
        let detail = format!("a body has at most {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            .with("field", "body")
            .with("bytes_max", bytes_max)
            .closing()
    };
    // A length that says it all: the body is not read, nor asked for with a 100.
    if body.size_hint().lower() > bytes_max {
        return Err(too_large());
    }
    let announced = body.size_hint().exact();
    let mut room = state.hub.body_room(announced);
    let reading = async {
        let (mut bytes, mut pieces) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|_| Problem::field("body", "the body broke off").closing())?;
            let Ok(data) = frame.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > bytes_max {
                return Err(too_large());
            }
            // Taken as the bytes come: a length that was only announced takes none from others.
            room.grow(data.len()).await.map_err(|error| Problem::from(error).closing())?;
            bytes.extend_from_slice(&data);
            pieces += 1;
            if pieces > PIECES_ALWAYS + bytes.len() / PIECE_BYTES_MIN {
                let detail = "the body comes in too many small chunks";
                return Err(Problem::field("body", detail).closing());
            }
            if (bytes.len() as u64) < announced.unwrap_or(bytes_max) {
                // A client can send a megabyte without a pause, and others have a shard's thread.
                yield_now().await;
            }
        }
        Ok(bytes)
    };
    let wait = Duration::from_secs(state.settings.body_read_timeout_s.into());
    let bytes = tokio::time::timeout(wait, reading).await.map_err(|_| {
        let detail = format!("the body did not come within {} s", wait.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail).closing()
    })??;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Problem::field("body", "the data must be UTF-8"))?;
    Ok((text, room))
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

/// Pieces that any body may come in, and bytes for each further one. A chunk of one byte costs its
/// sender six bytes and the hub a microsecond: at ten megabytes a second, a whole processor.
const PIECES_ALWAYS: usize = 1_024;
const PIECE_BYTES_MIN: usize = 64;
