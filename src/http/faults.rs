//! The fault hook: lets a test see an actor die. Off unless the settings ask for it.

use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    Problem,
    params::{Query, channel_name},
    routes::HttpState,
};
use crate::hub::Fault;

/// `POST /faults/{kind}?channel=…&shard=…`
pub(super) async fn plant(
    State(state): State<HttpState>,
    Path(kind): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::of(request.uri())?;
    let channel = || channel_name("channel", query.one("channel")?.unwrap_or_default());
    let shard = || Ok::<_, Problem>(query.number("shard", 0, 1_024)?.unwrap_or(0) as usize);
    let fault = match kind.as_str() {
        "root" => Fault::Root,
        "log" => Fault::Log,
        "channels" => Fault::Channels,
        "channel" => Fault::Channel(channel()?),
        "kill-channel" => Fault::KillChannel(channel()?),
        "shards" => Fault::Shards,
        "shard" => Fault::Shard(shard()?),
        "kill-shard" => Fault::KillShard(shard()?),
        "connection" => Fault::Connection(channel()?),
        _ => return Err(Problem::field("kind", "there is no such fault")),
    };
    state.hub.plant_fault(fault);
    Ok(StatusCode::ACCEPTED.into_response())
}
