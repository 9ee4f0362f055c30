//! CORS: which pages of other origins may read answers here, and ask for what needs a preflight.
//! Source: WHATWG Fetch, "HTTP CORS protocol".
//!
//! No origin is let in that the settings do not name. The quickstart routes are open to all, without
//! credentials. What is not for pages at all (the metrics, the console) is never shared.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{HttpSettings, OriginPattern, Problem, ROUTES};

/// Which origins' pages may use the hub.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Cors {
    /// The origins.
    pub origins: Vec<OriginPattern>,
    /// Whether their requests may carry cookies. Never together with `*`.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight, in seconds.
    pub max_age_s: u32,
}

impl Default for Cors {
    fn default() -> Self {
        Self { origins: Vec::new(), credentials: false, max_age_s: 600 }
    }
}

impl Cors {
    /// Whether an origin's pages may use the hub with cookies: one that is named.
    pub(super) fn admits_cookies(&self, origin: &str) -> bool {
        let named =
            |pattern: &OriginPattern| !pattern.is_any() && pattern.matches(origin.as_bytes());
        self.credentials && self.origins.iter().any(named)
    }
}

/// With whom the answer to a request is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sharing {
    /// With no other origin, whichever it is.
    Closed,
    /// With origins of which this one is none.
    Unlisted,
    /// With all of them, without credentials.
    All,
    /// With this one, which the settings name; perhaps with credentials.
    One(HeaderValue, bool),
}

impl Sharing {
    /// What the settings say for a path and an origin, if the request has one.
    pub(super) fn of(settings: &HttpSettings, path: &str, origin: Option<&HeaderValue>) -> Self {
        let is_quickstart = settings.quickstart && QUICKSTART.contains(&path);
        if !is_quickstart && !path.starts_with("/v1/") && !OPERATIONS.contains(&path) {
            return Self::Closed;
        }
        let otherwise = if is_quickstart { Self::All } else { Self::Unlisted };
        let Some(origin) = origin else { return otherwise };
        let mut admitting =
            settings.cors.origins.iter().filter(|it| it.matches(origin.as_bytes())).peekable();
        if admitting.peek().is_none() {
            return otherwise;
        }
        if admitting.any(|pattern| !pattern.is_any()) {
            return Self::One(origin.clone(), settings.cors.credentials);
        }
        Self::All
    }

    /// Whether pages of the origin may read the answer.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::All | Self::One(..))
    }

    /// Tells the browser (Fetch, section 3.3.2), and whoever keeps copies that others may be told
    /// otherwise.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        if *self == Self::Closed {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if self.is_shared() {
            self.allow(headers);
            headers
                .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }

    /// The answer to a preflight, if the request is one and its origin is let in. It is made before
    /// anybody asks for a token, since a preflight carries none.
    pub(super) fn preflight(&self, settings: &HttpSettings, request: &Request) -> Option<Response> {
        let wanted = request.headers();
        if request.method() != Method::OPTIONS
            || !wanted.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        if *self == Self::Unlisted && !settings.cors.origins.is_empty() {
            let detail =
                "pages of this origin may not use the hub; `cors_origins` names those that may";
            let problem = Problem::new(StatusCode::FORBIDDEN, detail).with("field", "Origin");
            return Some(problem.into_response());
        }
        let route = ROUTES.iter().find(|route| route.matches(request.uri().path()))?;
        if !self.is_shared() {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(route.allow));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, settings.cors.max_age_s.into());
        // A page of the internet that asks for a hub in a private network or on this machine (Private
        // Network Access): only one that is named.
        if matches!(self, Self::One(..)) && wanted.contains_key(PRIVATE_NETWORK_ASKED) {
            headers.insert(PRIVATE_NETWORK_ALLOWED, HeaderValue::from_static("true"));
        }
        Some(response)
    }

    fn allow(&self, headers: &mut HeaderMap) {
        let (origin, credentials) = match self {
            Self::One(origin, credentials) => (origin.clone(), *credentials),
            _ => (HeaderValue::from_static("*"), false),
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}

/// Open to all.
const QUICKSTART: [&str; 3] = ["/publish", "/subscribe", "/events"];
/// What tells of the hub as a whole, and of nobody's events.
const OPERATIONS: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];
const ALLOWED: &str =
    "Last-Event-ID, Authorization, Content-Type, Idempotency-Key, If-None-Match, Cache-Control";
const EXPOSED: &str = "Last-Event-ID, ETag, Retry-After, Idempotent-Replayed";
const PRIVATE_NETWORK_ASKED: &str = "access-control-request-private-network";
const PRIVATE_NETWORK_ALLOWED: &str = "access-control-allow-private-network";
