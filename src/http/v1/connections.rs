//! `/v1/connections`: lists open and recently closed connections, shows one, ends one.

use std::sync::Arc;

use axum::{Json, http::StatusCode};
use serde_json::{Map, Value, json};

use super::samples::behind_json;
use crate::{
    core::{SlowPolicy, Transport},
    http::{
        Problem,
        authorization::Action,
        call::{Call, Context, Next},
        params::{Query, channel_name, path_parameter},
    },
    hub::{
        ClosedCursor, ConnectionCursor, ConnectionFilter, ConnectionReport, ConnectionState,
        EndsFor, Hub, Unanswered,
    },
    model::rfc3339_millis,
};

/// `GET /v1/connections`: a page of open connections, or of recently closed ones.
pub(in crate::http) struct List {
    filter: ConnectionFilter,
    limit: usize,
    from: From,
}

/// Whether a page lists open or closed connections, and where it begins.
enum From {
    Open(ConnectionCursor),
    Closed(Option<ClosedCursor>),
}

impl List {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        let query = Query::of(&context.parts.uri)?;
        let limit = query.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_DEFAULT) as usize;
        let channel =
            query.one("channel")?.map(|text| channel_name("channel", text)).transpose()?;
        let transport = match query.one("transport")? {
            None => None,
            Some("sse") => Some(Transport::Stream),
            Some("poll") => Some(Transport::Poll),
            Some(_) => return Err(Problem::field("transport", "`transport` is `sse` or `poll`")),
        };
        let after = query.one("after")?;
        let (from, behind) = match query.one("state")? {
            Some("closed") => (From::Closed(closed_cursor(after)?), None),
            None => (From::Open(open_cursor(after)?), None),
            Some("behind") => (From::Open(open_cursor(after)?), Some(true)),
            Some("live") => (From::Open(open_cursor(after)?), Some(false)),
            Some(_) => {
                return Err(Problem::field("state", "`state` is `live`, `behind` or `closed`"));
            }
        };
        let subject = subject_read(context);
        let filter =
            ConnectionFilter { channel, transport, subject, behind, ..ConnectionFilter::default() };
        Ok(Self { filter, limit, from })
    }
}

impl Call for List {
    fn action(&self) -> Action<'_> {
        Action::ReadConnections(self.filter.subject.as_ref())
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Self { filter, limit, from } = self;
        let hub = &context.state.hub;
        let (listed, next, unanswered) = match from {
            From::Closed(after) => {
                let page = hub.ended_connections(&filter, after, limit).await;
                let next = page.next.map(|(ended_ms, id)| format!("{ended_ms}.{id}"));
                (page.connections, next, page.unanswered)
            }
            From::Open(from) => {
                let _permit = match filter.subject {
                    Some(_) => Some(hub.list_permit().await.ok_or_else(too_many_lists)?),
                    None => None,
                };
                let page = hub.connections(&filter, from, limit, SELECTORS_LISTED).await;
                let next = page.next.map(|cursor| format!("{}.{}", cursor.shard, cursor.slot));
                (page.connections, next, page.unanswered)
            }
        };
        let totals = hub.connection_totals();
        let node = &context.state.settings.node;
        let listed: Vec<Value> =
            listed.iter().map(|found| connection_json(found, hub, node)).collect();
        let mut page = json!({ "connections": listed });
        // A client with a subject must not see totals that include other clients.
        if filter.subject.is_none() {
            page["totals"] = json!({
                "streams": totals.streams,
                "polls": totals.polls,
                "behind": behind_json(&totals.behind),
                "lag_events": totals.behind.lag_events,
                "connections_max": totals.connections_max,
            });
        }
        if let Some(next) = next {
            page["next"] = next.into();
        }
        if !unanswered.is_empty() {
            page["unanswered_shards"] = unanswered.into();
        }
        Ok(Next::response(Json(page)))
    }
}

/// `GET /v1/connections/{id}`: one open or recently closed connection, with all its channels and
/// patterns.
pub(in crate::http) struct Show {
    /// The id as written in the path.
    text: String,
    subject: Option<Arc<str>>,
}

impl Show {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        let text = path_parameter(context.parameter, "id")?.into_owned();
        Ok(Self { text, subject: subject_read(context) })
    }
}

impl Call for Show {
    fn action(&self) -> Action<'_> {
        Action::ReadConnections(self.subject.as_ref())
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Self { text, subject } = self;
        let hub = &context.state.hub;
        let found = match (connection_id(&text), &subject) {
            (Some(id), Some(subject)) => hub.connection_of(id, subject).await,
            (Some(id), None) => hub.connection(id).await,
            (None, _) => Ok(None),
        };
        match found {
            // A client with a subject must not learn whether another subject's connection exists.
            Ok(Some(found)) if subject.is_none() || found.subject == subject => {
                let node = &context.state.settings.node;
                Ok(Next::response(Json(connection_json(&found, hub, node))))
            }
            Ok(_) => {
                let detail = format!("there is no connection `{text}`, nor did one end lately");
                Err(Problem::new(StatusCode::NOT_FOUND, detail).with("connection", text))
            }
            Err(error) => Err(unanswered(error)),
        }
    }
}

/// Ends one connection.
pub(in crate::http) struct End {
    /// The id as written in the path.
    text: String,
}

impl End {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        Ok(Self { text: path_parameter(context.parameter, "id")?.into_owned() })
    }
}

impl Call for End {
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Self { text } = self;
        let hub = &context.state.hub;
        let (found, ended) = match connection_id(&text) {
            Some(id) => (hub.connection(id).await.ok().flatten(), hub.end_connection(id).await),
            None => (None, Ok(false)),
        };
        match ended {
            Ok(true) => {
                let subject = found.as_ref().and_then(|found| found.subject.as_deref());
                let by = context.identity.subject().map(AsRef::<str>::as_ref);
                tracing::info!(
                    connection = text,
                    subject,
                    by,
                    "an administrator ended a connection"
                );
                Ok(Next::response(StatusCode::NO_CONTENT))
            }
            Ok(false) => {
                // The connection may have ended since it was looked up.
                let found = match connection_id(&text) {
                    Some(id) => hub.connection(id).await.ok().flatten(),
                    None => None,
                };
                let detail = match found.map(|found| found.state) {
                    Some(ConnectionState::Closed { reason, ended_ms }) => {
                        let at = rfc3339_millis(hub.wall_ms_at(ended_ms));
                        format!("connection `{text}` has ended: {}, at {at}", reason.as_str())
                    }
                    _ => format!("there is no connection `{text}`"),
                };
                Err(Problem::new(StatusCode::NOT_FOUND, detail).with("connection", text))
            }
            Err(error) => Err(unanswered(error)),
        }
    }
}

fn too_many_lists() -> Problem {
    let detail = "too many clients list their connections at the moment";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_soon()
}

/// 503, since the shards that did not answer may have the connection.
fn unanswered(error: Unanswered) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        .with("unanswered_shards", error.0)
        .retry_soon()
}

/// The id of a connection in a path.
pub(super) fn connection_id(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The subject whose connections the client reads; `None` stands for all connections. An admin, and
/// a client without a subject, read all.
fn subject_read(context: &Context<'_>) -> Option<Arc<str>> {
    context.identity.subject().filter(|_| !context.identity.is_admin()).cloned()
}

fn connection_json(found: &ConnectionReport, hub: &Hub, node: &str) -> Value {
    let now_ms = hub.now_ms();
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
            put("ended_at", rfc3339_millis(hub.wall_ms_at(ended_ms)).into());
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
    put("lag_events_max", found.lag_max.0.into());
    put("lag_bytes_max", found.lag_max.1.into());
    put("unsent_bytes", found.unsent_bytes.into());
    put("sent_bytes", found.sent_bytes.into());
    put("bytes_per_s", found.bytes_per_s.into());
    put("age_s", (until_ms.saturating_sub(found.opened_ms) / 1_000).into());
    put("idle_ms", until_ms.saturating_sub(found.written_ms).into());
    let policy = match found.policy {
        SlowPolicy::Disconnect => "disconnect",
        SlowPolicy::Skip => "skip",
    };
    put("policy", policy.into());
    let time = |ms: Option<u64>| ms.map(|ms| rfc3339_millis(hub.wall_ms_at(ms)));
    put("ends_at", time(found.ends_ms).into());
    put("ends_for", found.ends_for.map(EndsFor::as_str).into());
    put("stalls_at", time(found.stalls_ms).into());
    let peer = found.peer.map(|peer| peer.to_string());
    if let Some(client) = found.forwarded_for {
        put("peer", client.to_string().into());
        put("proxy", peer.into());
    } else {
        put("peer", peer.into());
    }
    put("identity", found.subject.as_deref().into());
    put("shard", found.shard.into());
    put("node", node.into());
    Value::Object(json)
}

/// The cursor in `after` for open connections; without it that of the first page.
fn open_cursor(after: Option<&str>) -> Result<ConnectionCursor, Problem> {
    let Some(text) = after else { return Ok(ConnectionCursor::default()) };
    let (shard, slot) = two_numbers(text)?;
    let (Ok(shard), Ok(slot)) = (shard.try_into(), slot.try_into()) else {
        return Err(bad_cursor());
    };
    Ok(ConnectionCursor { shard, slot })
}

fn closed_cursor(after: Option<&str>) -> Result<Option<ClosedCursor>, Problem> {
    after.map(two_numbers).transpose()
}

fn two_numbers(text: &str) -> Result<(u64, u64), Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let pair = text.split_once('.').filter(|_| digits);
    let pair = pair.and_then(|(first, second)| Some((first.parse().ok()?, second.parse().ok()?)));
    pair.ok_or_else(bad_cursor)
}

fn bad_cursor() -> Problem {
    Problem::field("after", "`after` is the `next` of the page before, with the same `state`")
}

/// Connections on a page, if the request has no `limit`.
const PAGE_DEFAULT: u32 = 100;
/// The largest `limit`.
const PAGE_MAX: u32 = 1_000;
/// Most channels, patterns and types of each connection that a page lists.
const SELECTORS_LISTED: usize = 16;
