//! `GET /v1/status`: the present state of the hub, and its counts since the start.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::{
    http::{
        Problem,
        authorization::Action,
        call::{Call, Context, Next},
        params::Query,
    },
    hub::{Hub, HubStatus},
    model::rfc3339_millis,
};

/// The status of the hub.
pub(in crate::http) struct Show;

impl Show {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        Query::of(&context.parts.uri)?;
        Ok(Self)
    }
}

impl Call for Show {
    /// Figures of all clients.
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        Ok(Next::response(Json(status_json(&context.state.hub))))
    }
}

fn status_json(hub: &Hub) -> Value {
    let status: HubStatus = hub.status();
    let (totals, limits) = (hub.connection_totals(), hub.limits());
    let closed: Map<String, Value> = status
        .connections_closed
        .iter()
        .map(|(reason, count)| (reason.as_str().to_owned(), (*count).into()))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": status.state.as_str(),
        "now": rfc3339_millis(status.now_ms),
        "started_at": rfc3339_millis(status.started_ms),
        "uptime_ms": status.uptime_ms,
        "history": status.history,
        "position": status.head.to_string(),
        "shards": status.shards,
        "connections": {
            "streams": totals.streams,
            "polls": totals.polls,
            "max": totals.connections_max,
            "http": status.http_connections,
            "http2": status.http2_connections,
        },
        "channels": {
            "open": status.channels,
            "max": limits.channels.channels_max,
            "throttled": status.channels_throttled,
        },
        "memory": {
            "resident_bytes": status.resident_bytes,
            "history_bytes": status.history_bytes,
            "history_bytes_max": limits.history.total_bytes_max,
            "unsent_bytes": status.unsent_bytes,
            "unsent_bytes_max": limits.connections.unsent_bytes_max,
        },
        "since_start": {
            "events_published": status.events_published,
            "bytes_published": status.bytes_published,
            "deliveries": status.deliveries,
            "connections_opened": status.connections_opened,
            "fell_behind": status.fell_behind,
            "connections_closed": closed,
        },
    })
}
