//! Authentication against the real binary: which requests are accepted, and what refusals say.
mod algorithms;
mod anonymous;
mod authority;
mod carriage;
mod commands;
mod debug;
mod forged;
mod issuer;
mod jwks;
mod leases;
mod reload;
mod routes;
mod secrets;
mod start;
mod stuck_log;
mod tokens;
use crate::wire;

pub(crate) use commands::mint;
pub(crate) use tokens::admin_of;

use visnyk_loadtest::Hub;
use wire::{Answer, ask, request};

/// The secret of the hubs of these tests.
pub(crate) const SECRET: &str = "a-secret-of-these-tests-and-of-no-hub";

/// A hub with that secret.
async fn hub(settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![("jwt_secret", SECRET)];
    all.extend(settings);
    wire::hub(&all).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A request with a token.
fn with(token: &str, method: &str, target: &str, body: &str) -> String {
    request(method, target, &[("Authorization", &bearer(token))], body)
}

/// Asks with a token.
async fn ask_with(hub: &Hub, token: &str, method: &str, target: &str, body: &str) -> Answer {
    ask(hub, with(token, method, target, body)).await
}

/// Checks that a token is refused as one, and why.
#[track_caller]
fn refused(answer: &Answer, reason: &str) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.problem()["reason"], reason);
    let challenge = answer.field("www-authenticate");
    assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
}

/// Checks that a good token does not allow it.
#[track_caller]
fn forbidden(answer: &Answer) {
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.problem()["reason"], "permissions");
    let challenge = answer.field("www-authenticate");
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\""), "{challenge}");
}
