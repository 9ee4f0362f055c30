//! The fault hook, by which a test crashes an actor. It is served only if the settings turn it on.

use axum::http::StatusCode;

use super::{
    Problem,
    authorization::Action,
    call::{Call, Context, Next},
    params::{Query, channel_name, path_parameter},
};
use crate::hub::Fault;

/// `POST /faults/{kind}?channel=…&shard=…`
pub(super) struct Plant(Fault);

impl Plant {
    pub(super) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        let query = Query::of(&context.parts.uri)?;
        let channel = || channel_name("channel", query.one("channel")?.unwrap_or_default());
        let shard = || Ok::<_, Problem>(query.number("shard", 0, 1_024)?.unwrap_or(0) as usize);
        let fault = match &*path_parameter(context.parameter, "kind")? {
            "root" => Fault::Root,
            "log" => Fault::Log,
            "channels" => Fault::Channels,
            "channel" => Fault::Channel(channel()?),
            "kill-channel" => Fault::KillChannel(channel()?),
            "shards" => Fault::Shards,
            "shard" => Fault::Shard(shard()?),
            "kill-shard" => Fault::KillShard(shard()?),
            "connection" => Fault::Connection(channel()?),
            "bridge" => Fault::Bridge,
            "sampler" => Fault::Sampler,
            _ => return Err(Problem::field("kind", "there is no such fault")),
        };
        Ok(Self(fault))
    }
}

impl Call for Plant {
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        context.state.hub.plant_fault(self.0);
        Ok(Next::response(StatusCode::ACCEPTED))
    }
}
