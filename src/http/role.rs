//! What a hub serves of the routes: everything, or one side of hubs that share a log.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Problem, route_policy::Endpoint};

/// The part of a hub among those that share a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It takes publishes and serves subscribers.
    #[default]
    All,
    /// It serves streams, polls and the console.
    Edge,
    /// It takes publishes.
    Ingest,
}

impl Role {
    /// All of them, as settings name them.
    pub const WORDS: &'static [&'static str] = &["all", "edge", "ingest"];

    /// The word in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Edge => "edge",
            Self::Ingest => "ingest",
        }
    }

    /// Refuses what a hub of another role is for: 421, since the request may be sent to that.
    pub(super) fn check(self, endpoint: Endpoint) -> Result<(), Problem> {
        let other = match (self, side_of(endpoint)) {
            (Self::Edge, Some(Self::Ingest)) => Self::Ingest,
            (Self::Ingest, Some(Self::Edge)) => Self::Edge,
            _ => return Ok(()),
        };
        let (role, other) = (self.as_str(), other.as_str());
        let detail = format!(
            "this hub has the role `{role}`; a hub of the role `{other}` or `all` serves this"
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).with("role", role))
    }
}

/// The role that an endpoint is of; none if every hub has it.
fn side_of(endpoint: Endpoint) -> Option<Role> {
    match endpoint {
        Endpoint::Publish
        | Endpoint::PublishMany
        | Endpoint::CloseChannel
        | Endpoint::QuickstartPublish => Some(Role::Ingest),
        Endpoint::Stream
        | Endpoint::StreamMany
        | Endpoint::Poll
        | Endpoint::PollMany
        | Endpoint::QuickstartEvents
        | Endpoint::QuickstartSubscribe
        | Endpoint::ConsolePage
        | Endpoint::ConsoleStyle
        | Endpoint::ConsoleScript
        | Endpoint::ConsoleIcon => Some(Role::Edge),
        Endpoint::ListChannels
        | Endpoint::ShowChannel
        | Endpoint::ListConnections
        | Endpoint::ShowConnection
        | Endpoint::RenewToken
        | Endpoint::Healthz
        | Endpoint::Readyz
        | Endpoint::Metrics
        | Endpoint::OpenApi
        | Endpoint::BrowserClient
        | Endpoint::BrowserClientTypes
        | Endpoint::EndConnection
        | Endpoint::Status
        | Endpoint::PlantFault => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_refuses_the_other_side_and_names_itself() {
        for (role, publish, stream) in
            [(Role::All, true, true), (Role::Edge, false, true), (Role::Ingest, true, false)]
        {
            assert_eq!(role.check(Endpoint::PublishMany).is_ok(), publish, "{role:?}");
            assert_eq!(role.check(Endpoint::StreamMany).is_ok(), stream, "{role:?}");
            assert!(
                role.check(Endpoint::Metrics).is_ok() && role.check(Endpoint::ShowChannel).is_ok()
            );
            assert!(Role::WORDS.contains(&role.as_str()));
        }
        let refused = Role::Edge.check(Endpoint::Publish).expect_err("it is the other side");
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST);
        assert!(refused.detail().contains("the role `edge`"), "{}", refused.detail());
    }
}
