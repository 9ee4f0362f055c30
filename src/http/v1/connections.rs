//! `/v1/connections`: what each connection is doing, and why recent ones were closed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State},
    http::StatusCode,
};
use serde_json::{Map, Value, json};

use crate::{
    auth::Identity,
    core::{SlowPolicy, Transport},
    http::{
        Problem, authorization,
        params::{Query, channel_name},
        problem::RETRY_AFTER_S,
        routes::HttpState,
    },
    hub::{ClosedCursor, ConnectionCursor, ConnectionFilter, ConnectionReport, ConnectionState},
    model::rfc3339_millis,
};

/// A page of connections: of those there are, or of those that ended lately.
pub(in crate::http) async fn list(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let query = Query::of(request.uri())?;
    let limit = query.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_DEFAULT) as usize;
    let channel = query.one("channel")?.map(|text| channel_name("channel", text)).transpose()?;
    let transport = match query.one("transport")? {
        None => None,
        Some("sse") => Some(Transport::Stream),
        Some("poll") => Some(Transport::Poll),
        Some(_) => return Err(Problem::field("transport", "`transport` is `sse` or `poll`")),
    };
    let subject = subject_seen(&*authorization::identity(&state, request.extensions())?)?;
    let mut filter =
        ConnectionFilter { channel, transport, subject, ..ConnectionFilter::default() };
    let after = query.one("after")?;
    let (listed, next, unanswered) = match query.one("state")? {
        Some("closed") => {
            let page = state.hub.ended_connections(&filter, after_end(after)?, limit).await;
            let next = page.next.map(|(ended_ms, id)| format!("{ended_ms}.{id}"));
            (page.connections, next, page.unanswered)
        }
        text => {
            filter.behind = match text {
                None => None,
                Some("behind") => Some(true),
                Some("live") => Some(false),
                Some(_) => {
                    let detail = "`state` is `live`, `behind` or `closed`";
                    return Err(Problem::field("state", detail));
                }
            };
            let from = after_cursor(after)?;
            let page = state.hub.connections(&filter, from, limit, SELECTORS_LISTED).await;
            let next = page.next.map(|cursor| format!("{}.{}", cursor.shard, cursor.slot));
            (page.connections, next, page.unanswered)
        }
    };
    let totals = state.hub.connection_totals();
    let now_ms = state.hub.now_ms();
    let listed: Vec<Value> = listed.iter().map(|found| connection_json(found, now_ms)).collect();
    let mut page = json!({ "connections": listed });
    // How many others have is not a subject's business.
    if filter.subject.is_none() {
        page["totals"] = json!({
            "streams": totals.streams,
            "polls": totals.polls,
            "connections_max": totals.connections_max,
        });
    }
    if let Some(next) = next {
        page["next"] = next.into();
    }
    if !unanswered.is_empty() {
        page["unanswered_shards"] = unanswered.into();
    }
    Ok(Json(page))
}

/// Whose connections may be seen: all, or those of one subject.
fn subject_seen(identity: &Identity) -> Result<Option<Arc<str>>, Problem> {
    match identity.subject() {
        _ if identity.is_admin() => Ok(None),
        Some(subject) => Ok(Some(Arc::clone(subject))),
        None => authorization::authorize_admin(identity).map(|()| None),
    }
}

/// One connection, with all its channels and patterns; one that ended lately too.
pub(in crate::http) async fn show(
    State(state): State<HttpState>,
    Path(text): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let subject = subject_seen(&*authorization::identity(&state, request.extensions())?)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse::<u64>().ok().filter(|_| digits);
    let found = match id {
        Some(id) => state.hub.connection(id).await,
        None => Ok(None),
    };
    match found {
        // Others' connections are not there for a subject.
        Ok(Some(found)) if subject.is_none() || found.subject == subject => {
            Ok(Json(connection_json(&found, state.hub.now_ms())))
        }
        Ok(_) => {
            let detail = format!("there is no connection `{text}`, nor did one end lately");
            Err(Problem::new(StatusCode::NOT_FOUND, detail).with("connection", text))
        }
        Err(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            .with("unanswered_shards", error.0)
            .retry_after(RETRY_AFTER_S)),
    }
}

fn connection_json(found: &ConnectionReport, now_ms: u64) -> Value {
    let mut json = Map::new();
    let mut put = |name: &str, value: Value| json.insert(name.to_owned(), value);
    put("id", found.id.to_string().into());
    put("state", "live".into());
    let until_ms = match found.state {
        ConnectionState::Live => now_ms,
        ConnectionState::Behind(behind) => {
            put("state", "behind".into());
            put("reason", behind.as_str().into());
            now_ms
        }
        ConnectionState::Closed { reason, ended_ms } => {
            put("state", "closed".into());
            put("reason", reason.as_str().into());
            put("ended_at", rfc3339_millis(ended_ms).into());
            ended_ms
        }
    };
    let transport = match found.transport {
        Transport::Stream => "sse",
        Transport::Poll => "poll",
    };
    put("transport", transport.into());
    put("channels", found.channels.iter().map(|name| name.as_str()).collect());
    put("patterns", found.patterns.iter().map(|pattern| pattern.as_str()).collect());
    put("subscriptions", found.selectors.into());
    put("types", found.types.iter().map(|wanted| wanted.as_str()).collect());
    put("position", found.position.to_string().into());
    put("lag_events", found.lag_events.into());
    put("lag_bytes", found.lag_bytes.into());
    put("unsent_bytes", found.unsent_bytes.into());
    put("age_s", (until_ms.saturating_sub(found.opened_ms) / 1_000).into());
    put("idle_ms", until_ms.saturating_sub(found.written_ms).into());
    let policy = match found.policy {
        SlowPolicy::Disconnect => "disconnect",
        SlowPolicy::Skip => "skip",
    };
    put("policy", policy.into());
    put("ends_at", found.ends_ms.map(rfc3339_millis).into());
    let peer = found.peer.map(|peer| peer.to_string());
    if let Some(client) = found.forwarded_for {
        put("peer", client.to_string().into());
        put("proxy", peer.into());
    } else {
        put("peer", peer.into());
    }
    put("identity", found.subject.as_deref().into());
    put("shard", found.shard.into());
    Value::Object(json)
}

/// The place in `after`, or the first.
fn after_cursor(after: Option<&str>) -> Result<ConnectionCursor, Problem> {
    let Some(text) = after else { return Ok(ConnectionCursor::default()) };
    let (shard, slot) = numbers(text)?;
    let (Ok(shard), Ok(slot)) = (shard.try_into(), slot.try_into()) else {
        return Err(bad_cursor());
    };
    Ok(ConnectionCursor { shard, slot })
}

fn after_end(after: Option<&str>) -> Result<Option<ClosedCursor>, Problem> {
    after.map(numbers).transpose()
}

fn numbers(text: &str) -> Result<(u64, u64), Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let pair = text.split_once('.').filter(|_| digits);
    let pair = pair.and_then(|(first, second)| Some((first.parse().ok()?, second.parse().ok()?)));
    pair.ok_or_else(bad_cursor)
}

fn bad_cursor() -> Problem {
    Problem::field("after", "`after` is the `next` of the page before, with the same `state`")
}

/// Connections on a page when the request does not say.
const PAGE_DEFAULT: u32 = 100;
/// Most connections on a page.
const PAGE_MAX: u32 = 1_000;
/// Channels, patterns, and types of each that a page lists.
const SELECTORS_LISTED: usize = 16;
