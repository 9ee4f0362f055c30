//! Authorizes actions: decides whether an identity may perform one. No other file decides that.

use std::sync::Arc;

use axum::http::StatusCode;

use super::Problem;
use crate::{
    auth::Identity,
    core::Subscription,
    model::{ChannelName, NewEvent},
};

/// An action that a call is authorized for.
#[derive(Debug)]
pub(super) enum Action<'a> {
    /// An action that neither shows nor changes data of clients; always allowed.
    Open,
    Subscribe(&'a Subscription),
    Publish(&'a ChannelName),
    /// To publish to all channels of a batch. An empty batch is always allowed: it stands for one
    /// whose channels are not known yet.
    PublishBatch(&'a [(ChannelName, NewEvent)]),
    /// To read about a channel.
    ReadChannel(&'a ChannelName),
    /// To list the channels that [`may_read`] shows.
    ListChannels,
    /// To read about the connections of a subject, or about all.
    ReadConnections(Option<&'a Arc<str>>),
    /// To renew the lease of a connection. The connection's shard compares the subjects.
    RenewLease,
    Administer,
}

/// Allows or rejects an action. Only the dispatcher calls this, once for each step of a call. It is
/// async, so that an external service could decide.
pub(super) async fn authorize(identity: &Identity, action: Action<'_>) -> Result<(), Problem> {
    match action {
        Action::Open | Action::ListChannels | Action::RenewLease => Ok(()),
        Action::Subscribe(subscription) => match identity.refused_of(subscription) {
            None => Ok(()),
            Some(refused) => Err(subscribe_denied(identity, refused)),
        },
        Action::Publish(channel) => check_publish(identity, channel),
        Action::PublishBatch(events) => {
            // In most batches all events have the same channel, which is checked only once.
            let mut checked = None;
            for (channel, _) in events {
                if checked != Some(channel) {
                    check_publish(identity, channel)?;
                    checked = Some(channel);
                }
            }
            Ok(())
        }
        Action::ReadChannel(channel) if may_read(identity, channel) => Ok(()),
        Action::ReadChannel(channel) => Err(subscribe_denied(identity, channel.as_str())),
        Action::ReadConnections(Some(subject)) if identity.subject() == Some(subject) => Ok(()),
        Action::ReadConnections(_) | Action::Administer if identity.is_admin() => Ok(()),
        Action::ReadConnections(_) | Action::Administer => {
            Err(denied(identity, "this needs a token with `admin`"))
        }
    }
}

/// Whether the identity may read about a channel. Listings leave out other channels.
pub(super) fn may_read(identity: &Identity, channel: &ChannelName) -> bool {
    identity.is_admin() || identity.may_subscribe(channel)
}

/// 401 for a request without a token.
pub(super) fn no_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "this needs a token")
        .with("reason", "no_token")
        .challenge_bare()
        .auth_refused("no_token")
}

fn check_publish(identity: &Identity, channel: &ChannelName) -> Result<(), Problem> {
    if identity.may_publish(channel) {
        return Ok(());
    }
    let detail = format!("`{channel}` may not be published to");
    Err(denied(identity, &detail).with("channel", channel.as_str()))
}

fn subscribe_denied(identity: &Identity, channel: &str) -> Problem {
    let hint = match channel.contains("{sub}") {
        true => ": `{sub}` stands for the subject in tokens alone",
        false => "",
    };
    let detail = format!("`{channel}` may not be subscribed to{hint}");
    denied(identity, &detail).with("channel", channel)
}

/// 401 without a token, 403 if the token does not allow it.
fn denied(identity: &Identity, detail: &str) -> Problem {
    if identity.is_anonymous() {
        return no_token();
    }
    Problem::new(StatusCode::FORBIDDEN, detail)
        .with("reason", "permissions")
        .challenge("insufficient_scope", detail)
        .auth_refused("permissions")
}
