//! What a request may do: every request to a route that is not open is given an identity here, and
//! no handler is reached without one.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Request, State},
    http::{Extensions, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    LocalAddress, MetricsAccess, Problem, credentials::Credential, problem::RETRY_AFTER_S,
    routes::HttpState, stream,
};
use crate::{
    auth::{Identity, TokenError, Verifier},
    core::Subscription,
    hub::{Holder, Source},
    model::{ChannelName, ClientAddress},
};

/// What a route demands of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessPolicy {
    /// Nothing: it neither shows nor changes what belongs to a client.
    Open,
    /// A token, or anonymous access; safe methods take a token from the query too.
    Subscribers,
    /// A token, or anonymous access for safe methods.
    Clients,
    /// A token with `admin`.
    Admins,
    /// As the settings say for the metrics.
    Metrics,
}

/// Passes a request on with an identity, or refuses it.
pub(super) async fn middleware(
    State((state, policy)): State<(HttpState, AccessPolicy)>,
    mut request: Request,
    next: Next,
) -> Response {
    match authorize(&state, policy, &mut request).await {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

/// Gives a request its identity, or says why it is refused. Without authentication no request needs
/// one (see `routes::with_authorization`).
pub(super) async fn authorize(
    state: &HttpState,
    policy: AccessPolicy,
    request: &mut Request,
) -> Option<Response> {
    if policy == AccessPolicy::Open || state.default_identity.is_some() {
        return None;
    }
    match identify(state, policy, request).await {
        Ok(identity) => {
            request.extensions_mut().insert(Arc::new(identity));
            None
        }
        Err(Refusal::Problem(problem)) => Some(problem.into_response()),
        Err(Refusal::Temporary(error)) => {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            let problem = problem.retry_after(RETRY_AFTER_S);
            Some(if request.method().is_safe() {
                let accepts_stream = stream::accepts_stream(request.headers());
                stream::refuse_temporarily(state, accepts_stream, problem)
            } else {
                problem.into_response()
            })
        }
    }
}

enum Refusal {
    Problem(Problem),
    /// The same token may be good later.
    Temporary(TokenError),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

async fn identify(
    state: &HttpState,
    policy: AccessPolicy,
    request: &mut Request,
) -> Result<Identity, Refusal> {
    let access = &state.settings.access;
    // Without one there is no authorization (see `routes::with_authorization`).
    let Some(verifier) = &access.verifier else { return Ok(Identity::unrestricted()) };
    let is_safe = request.method().is_safe();
    let takes_query = policy == AccessPolicy::Subscribers && is_safe;
    let credential = Credential::take(request, access, takes_query)?;
    if policy == AccessPolicy::Metrics && may_read_metrics(state, request, credential.as_ref()) {
        return Ok(Identity::unrestricted());
    }
    let Some(credential) = credential else {
        let is_for_all =
            is_safe && matches!(policy, AccessPolicy::Subscribers | AccessPolicy::Clients);
        let anonymous = verifier.anonymous().filter(|_| is_for_all);
        return anonymous.ok_or_else(|| no_token().into());
    };
    credential.check_origin(request, &state.settings)?;
    let identity = verify(state, verifier, &credential.token).await?;
    if matches!(policy, AccessPolicy::Admins | AccessPolicy::Metrics) && !identity.is_admin() {
        return Err(forbidden("this needs a token with `admin`").into());
    }
    Ok(identity)
}

async fn verify(state: &HttpState, verifier: &Verifier, token: &str) -> Result<Identity, Refusal> {
    verifier.verify(token, unix_ms()).await.map_err(|error| {
        state.hub.count_refused_token(error.as_str());
        if error.is_temporary() {
            return Refusal::Temporary(error);
        }
        let detail = error.to_string();
        let problem = Problem::new(StatusCode::UNAUTHORIZED, detail.clone());
        problem.with("reason", error.as_str()).challenge("invalid_token", &detail).into()
    })
}

/// Whether the settings let this request see the metrics without a token that is a JWT.
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

/// Who makes a request; without authentication all requests have the same identity. With it, a
/// handler without authorization finds no identity, and refuses.
pub(super) fn identity(
    state: &HttpState,
    extensions: &Extensions,
) -> Result<Arc<Identity>, Problem> {
    state.default_identity.as_ref().or_else(|| extensions.get()).cloned().ok_or_else(|| {
        tracing::error!("a route has no authorization");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be answered")
    })
}

/// Whether all of a subscription is allowed.
pub(super) fn authorize_subscribe(
    identity: &Identity,
    subscription: &Subscription,
) -> Result<(), Problem> {
    match identity.refused_of(subscription) {
        None => Ok(()),
        Some(refused) => {
            let detail = format!("`{refused}` may not be subscribed to");
            Err(denied(identity, &detail).with("channel", refused))
        }
    }
}

/// Whether a channel may be published to.
pub(super) fn authorize_publish(identity: &Identity, channel: &ChannelName) -> Result<(), Problem> {
    if identity.may_publish(channel) {
        return Ok(());
    }
    let detail = format!("`{channel}` may not be published to");
    Err(denied(identity, &detail).with("channel", channel.as_str()))
}

/// Whether a channel may be read about.
pub(super) fn authorize_read(identity: &Identity, channel: &ChannelName) -> Result<(), Problem> {
    if identity.is_admin() || identity.may_subscribe(channel) {
        return Ok(());
    }
    let detail = format!("`{channel}` may not be subscribed to");
    Err(denied(identity, &detail).with("channel", channel.as_str()))
}

/// Whether the hub may be administered.
pub(super) fn authorize_admin(identity: &Identity) -> Result<(), Problem> {
    if identity.is_admin() {
        return Ok(());
    }
    Err(denied(identity, "this needs a token with `admin`"))
}

/// Who holds a connection, and until when in the hub's own time; `None` without authentication.
pub(super) fn holder(state: &HttpState, identity: &Identity) -> Option<Holder> {
    if identity.is_unrestricted() {
        return None;
    }
    let until_ms = until_ms(state, identity);
    Some(Holder { subject: identity.subject().cloned(), until_ms })
}

/// What the limits count events by: a subject, or an address for clients without one.
pub(super) fn source(identity: &Identity, extensions: &Extensions) -> Option<Source> {
    match identity.subject() {
        Some(subject) => Some(Source::Subject(Arc::clone(subject))),
        None => extensions.get::<ClientAddress>().copied().map(Source::Client),
    }
}

/// When a token expires, by the hub's clock, which may differ from the wall clock.
pub(super) fn until_ms(state: &HttpState, identity: &Identity) -> Option<u64> {
    let expires_ms = identity.expires_ms()?;
    Some(state.hub.now_ms() + expires_ms.saturating_sub(unix_ms()))
}

/// 401 without a token, 403 if the token does not allow it.
fn denied(identity: &Identity, detail: &str) -> Problem {
    if identity.is_anonymous() { no_token() } else { forbidden(detail) }
}

fn no_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "this needs a token")
        .with("reason", "no_token")
        .challenge_bare()
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
        .with("reason", "permissions")
        .challenge("insufficient_scope", detail)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// A proxy on this machine passes on what comes from others, and says so.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
