//! Rejects requests that only hubs of another role serve.

use axum::http::StatusCode;

use super::{Problem, Role, route_policy::Endpoint};

/// Rejects a request that a hub of this role does not serve with 421: the client may send it to
/// another hub.
pub(super) fn check_role(role: Role, endpoint: Endpoint) -> Result<(), Problem> {
    let other = match (role, role_needed(endpoint)) {
        (Role::Edge, Some(Role::Ingest)) => Role::Ingest,
        (Role::Ingest, Some(Role::Edge)) => Role::Edge,
        _ => return Ok(()),
    };
    let (role, other) = (role.as_str(), other.as_str());
    let detail =
        format!("this hub has the role `{role}`; a hub of the role `{other}` or `all` serves this");
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).with("role", role))
}

/// The role that a hub needs to serve an endpoint; `None` if all hubs serve it.
fn role_needed(endpoint: Endpoint) -> Option<Role> {
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
        | Endpoint::ConsoleFile
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
        | Endpoint::Samples
        | Endpoint::Reload
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
            assert_eq!(check_role(role, Endpoint::PublishMany).is_ok(), publish, "{role:?}");
            assert_eq!(check_role(role, Endpoint::StreamMany).is_ok(), stream, "{role:?}");
            assert!(
                check_role(role, Endpoint::Metrics).is_ok()
                    && check_role(role, Endpoint::ShowChannel).is_ok()
            );
            assert!(Role::WORDS.contains(&role.as_str()));
        }
        let refused = check_role(Role::Edge, Endpoint::Publish).expect_err("it is the other side");
        assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST);
        assert!(refused.detail().contains("the role `edge`"), "{}", refused.detail());
    }
}
