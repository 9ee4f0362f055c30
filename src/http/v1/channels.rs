//! `/v1/channels`: lists channels, shows one, closes one; the latter two by `/v1/channel` too.

use axum::{Json, http::StatusCode};
use serde_json::{Value, json};

use crate::{
    http::{
        Problem,
        authorization::{Action, may_read},
        call::{Call, Context, Next},
        params::{Query, channel_in_path, channel_name},
    },
    hub::{ChannelInfo, HubsCounted},
    model::ChannelName,
};

/// A page of channels, in the order of their names.
pub(in crate::http) struct List {
    limit: usize,
    after: Option<String>,
    prefix: String,
}

impl List {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        let query = Query::of(&context.parts.uri)?;
        let limit = query.number("limit", 1, PAGE_MAX)?.unwrap_or(PAGE_DEFAULT) as usize;
        let prefix = query.one("prefix")?.unwrap_or_default().to_owned();
        Ok(Self { limit, after: query.one("after")?.map(str::to_owned), prefix })
    }
}

impl Call for List {
    fn action(&self) -> Action<'_> {
        Action::ListChannels
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Self { limit, after, prefix } = self;
        let may_see = |name: &ChannelName| may_read(&context.identity, name);
        // One more than the limit is requested, to find out whether there is a next page.
        let found = context.state.hub.channels_where(&prefix, after.as_deref(), limit + 1, may_see);
        let mut channels = found.await;
        let has_more = channels.len() > limit;
        channels.truncate(limit);
        let next = channels.last().filter(|_| has_more);
        let mut page = json!({ "channels": channels.iter().map(info_json).collect::<Vec<_>>() });
        if let Some(last) = next {
            page["next"] = last.channel.as_str().into();
        }
        Ok(Next::response(Json(page)))
    }
}

/// One channel.
pub(in crate::http) struct Show(ChannelName);

impl Show {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        named_channel(context).map(Self)
    }
}

impl Call for Show {
    fn action(&self) -> Action<'_> {
        Action::ReadChannel(&self.0)
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let Self(name) = self;
        match context.state.hub.channel_at_all_hubs(&name).await {
            Some((info, counted)) => {
                let mut shown = info_json(&info);
                if let Some(HubsCounted { hubs, age_ms, incomplete }) = counted {
                    let complete = incomplete.is_none();
                    let counted = json!({ "hubs": hubs, "age_ms": age_ms, "complete": complete });
                    shown["counted"] = counted;
                    if let Some(why) = incomplete {
                        shown["counted"]["reason"] = why.into();
                    }
                }
                Ok(Next::response(Json(shown)))
            }
            None => {
                let detail = format!("there is no channel `{name}`");
                Err(Problem::new(StatusCode::NOT_FOUND, detail).with("channel", name.as_str()))
            }
        }
    }
}

/// Closes a channel.
pub(in crate::http) struct Close(ChannelName);

impl Close {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        named_channel(context).map(Self)
    }
}

impl Call for Close {
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        context.state.hub.close_channel(&self.0).await?;
        let by = context.identity.subject().map(AsRef::<str>::as_ref);
        tracing::info!(channel = self.0.as_str(), by, "an administrator closed a channel");
        Ok(Next::response(StatusCode::NO_CONTENT))
    }
}

/// The channel in the path, or, on `/v1/channel`, in the query: some proxies reject `%2F` in a
/// path.
fn named_channel(context: &Context<'_>) -> Result<ChannelName, Problem> {
    match context.parameter {
        "" => {
            let query = Query::of(&context.parts.uri)?;
            channel_name("channel", query.one("channel")?.unwrap_or_default())
        }
        part => channel_in_path(part),
    }
}

fn info_json(info: &ChannelInfo) -> Value {
    json!({
        "channel": info.channel.as_str(),
        "subscribers": info.subscribers,
        "pollers": info.pollers,
        "events_total": info.events_total,
        "events_retained": info.events_retained,
        "bytes_retained": info.bytes_retained,
        "truncated": info.truncated,
        "first_id": info.first_id.map(|id| id.to_string()),
        "last_id": info.last_id.map(|id| id.to_string()),
        "closed": info.closed,
    })
}

/// Channels on a page, if the request has no `limit`.
const PAGE_DEFAULT: u32 = 100;
/// The largest `limit`.
const PAGE_MAX: u32 = 1_000;
