//! `/v1/channels`: what channels there are, and closing one.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde_json::{Value, json};

use super::stream::path_channel;
use crate::{
    http::{
        Problem, authorization,
        params::{Query, channel_name},
        routes::HttpState,
    },
    hub::ChannelInfo,
    model::ChannelName,
};

/// A page of channels, in the order of their names.
pub(in crate::http) async fn list(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let query = Query::of(request.uri())?;
    let limit = query.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_DEFAULT) as usize;
    let after = query.one("after")?;
    // One more than asked for tells whether there is a next page.
    let identity = authorization::identity(&state, request.extensions())?;
    let may_see = |name: &ChannelName| identity.is_admin() || identity.may_subscribe(name);
    let mut channels = state.hub.channels_where(after, limit + 1, may_see).await;
    let has_more = channels.len() > limit;
    channels.truncate(limit);
    let next = channels.last().filter(|_| has_more);
    let mut page = json!({ "channels": channels.iter().map(info_json).collect::<Vec<_>>() });
    if let Some(last) = next {
        page["next"] = last.channel.as_str().into();
    }
    Ok(Json(page))
}

/// One channel.
pub(in crate::http) async fn show(
    State(state): State<HttpState>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let name = channel_name("channel", &path_channel(&request)?)?;
    authorization::authorize_read(&*authorization::identity(&state, request.extensions())?, &name)?;
    match state.hub.channel(&name) {
        Some(info) => Ok(Json(info_json(&info))),
        None => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no channel `{name}`"))
            .with("channel", name.as_str())),
    }
}

/// Closes one.
pub(in crate::http) async fn close(
    State(state): State<HttpState>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let name = channel_name("channel", &path_channel(&request)?)?;
    authorization::authorize_admin(&*authorization::identity(&state, request.extensions())?)?;
    state.hub.close_channel(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn info_json(info: &ChannelInfo) -> Value {
    json!({
        "channel": info.channel.as_str(),
        "subscribers": info.subscribers,
        "pollers": info.pollers,
        "events_retained": info.events_retained,
        "bytes_retained": info.bytes_retained,
        "first_id": info.first_id.map(|id| id.to_string()),
        "last_id": info.last_id.map(|id| id.to_string()),
        "closed": info.closed,
    })
}

/// Channels on a page when the request does not say.
const PAGE_DEFAULT: u32 = 100;
/// Most channels on a page.
const PAGE_MAX: u32 = 1_000;
