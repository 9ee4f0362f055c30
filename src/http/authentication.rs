//! Authenticates a request: the identity of its token, or that of a request without a token.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    LocalAddress, MetricsAccess, Problem,
    authorization::no_token,
    credentials::Credential,
    request_id::RequestId,
    route_policy::{AccessPolicy, Route},
    state::HttpState,
    stream,
};
use crate::{
    auth::{Identity, TokenError, Verifier},
    hub::Holder,
    model::ClientAddress,
};

/// The identity of a request for a route, or the answer to a request that is not authenticated.
pub(super) async fn authenticate(
    state: &HttpState,
    route: &Route,
    request_id: &RequestId,
    request: &mut Request,
) -> Result<Arc<Identity>, Box<Response>> {
    let verifier = match &state.settings.access.verifier {
        Some(verifier) if route.access != AccessPolicy::Open => verifier,
        _ => return Ok(Arc::clone(&state.default_identity)),
    };
    match identify(state, verifier, route, request).await {
        Ok(identity) => Ok(Arc::new(identity)),
        Err(Refusal::Problem(problem)) => {
            Err(Box::new(problem.with_request_id(request_id).into_response()))
        }
        Err(Refusal::Temporary(error)) => {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            let problem = problem.retry_soon().with_request_id(request_id);
            Err(Box::new(if request.method().is_safe() {
                let accepts_stream = stream::accepts_stream(request.headers());
                let version = request.version();
                stream::refuse_temporarily(state, accepts_stream, version, problem)
            } else {
                problem.into_response()
            }))
        }
    }
}

enum Refusal {
    Problem(Problem),
    /// A temporary failure, such as keys that have not been fetched yet. The same token may be
    /// accepted later.
    Temporary(TokenError),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

async fn identify(
    state: &HttpState,
    verifier: &Verifier,
    route: &Route,
    request: &mut Request,
) -> Result<Identity, Refusal> {
    let policy = route.access;
    let is_safe = request.method().is_safe();
    let takes_query = policy == AccessPolicy::Subscribers && is_safe;
    let credential = Credential::take(request, &state.settings.access, takes_query)?;
    if policy == AccessPolicy::Metrics && may_read_metrics(state, request, credential.as_ref()) {
        return Ok(Identity::unrestricted());
    }
    let Some(credential) = credential else {
        let allows_anonymous =
            is_safe && matches!(policy, AccessPolicy::Subscribers | AccessPolicy::Clients);
        let anonymous = verifier.anonymous().filter(|_| allows_anonymous);
        return anonymous.ok_or_else(|| no_token().into());
    };
    credential.check_origin(request, &state.settings, route.waits_for_events())?;
    verify(state, verifier, &credential.token).await
}

async fn verify(state: &HttpState, verifier: &Verifier, token: &str) -> Result<Identity, Refusal> {
    verifier.verify(token, unix_ms()).await.map_err(|error| {
        state.hub.count_refused_token(error.as_str());
        if error.is_temporary() {
            return Refusal::Temporary(error);
        }
        let detail = error.to_string();
        let problem = Problem::new(StatusCode::UNAUTHORIZED, detail.clone());
        let problem = problem.with("reason", error.as_str()).challenge("invalid_token", &detail);
        problem.auth_refused("invalid_token").into()
    })
}

/// Whether this request may read the metrics without a JWT: by the settings, by the metrics token,
/// or since it comes from this machine.
fn may_read_metrics(state: &HttpState, request: &Request, credential: Option<&Credential>) -> bool {
    let access = &state.settings.access;
    let has_token =
        credential.is_some_and(|shown| access.metrics_token.matches(shown.token.as_bytes()));
    let is_local = || {
        let local = request.extensions().get::<LocalAddress>();
        let client = request.extensions().get::<ClientAddress>();
        local.is_some_and(|local| local.0.ip().to_canonical().is_loopback())
            && client.is_none_or(ClientAddress::is_this_machine)
            && !FORWARDED.iter().any(|field| request.headers().contains_key(*field))
    };
    match access.metrics {
        MetricsAccess::Open => true,
        MetricsAccess::Loopback => has_token || is_local(),
        MetricsAccess::Token => has_token,
    }
}

/// The holder of a connection, with the expiry of its token by the hub's clock; `None` without
/// authentication.
pub(super) fn holder(state: &HttpState, identity: &Identity) -> Option<Holder> {
    if identity.is_unrestricted() {
        return None;
    }
    let until_ms = until_ms(state, identity);
    Some(Holder { subject: identity.subject().cloned(), until_ms })
}

/// When a token expires, by the hub's clock, which may differ from the wall clock.
pub(super) fn until_ms(state: &HttpState, identity: &Identity) -> Option<u64> {
    let expires_ms = identity.expires_ms()?;
    Some(state.hub.now_ms() + expires_ms.saturating_sub(unix_ms()))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Fields that proxies add. A request with one of them came through a proxy, so its client is not
/// on this machine, even if the proxy is.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
