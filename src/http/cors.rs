//! CORS: decides which pages of other origins may read answers, and answers preflights (WHATWG
//! Fetch, "HTTP CORS protocol").
//!
//! Each route has a [`CorsClass`]: its answers may be read by pages of the origins that the
//! settings list, of all origins without credentials (the quickstart), or of no other origin (the
//! metrics, the console).

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{OriginPattern, Problem};

/// The CORS settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Cors {
    /// The allowed origins.
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
    /// Whether pages of this origin may send cookies: credentials are allowed, and a pattern other
    /// than `*` matches the origin.
    pub(super) fn admits_cookies(&self, origin: &str) -> bool {
        let named =
            |pattern: &OriginPattern| !pattern.is_any() && pattern.matches(origin.as_bytes());
        self.credentials && self.origins.iter().any(named)
    }
}

/// Which other origins CORS lets read the answers of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CorsClass {
    /// No other origin.
    Closed,
    /// The origins in the settings.
    Listed,
    /// All origins.
    All,
}

/// Which other origins may read the answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sharing {
    /// None: the route is [`CorsClass::Closed`].
    Closed,
    /// None: the route is for listed origins, but the request has no `Origin`, or one that is not
    /// listed.
    Unlisted,
    /// All origins, without credentials.
    All,
    /// This listed origin, which is that of the request; with credentials if the flag is true.
    One(HeaderValue, bool),
}

impl Sharing {
    /// The sharing by the settings, the class of the route, and the `Origin` of the request.
    pub(super) fn of(cors: &Cors, class: CorsClass, origin: Option<&HeaderValue>) -> Self {
        let otherwise = match class {
            CorsClass::Closed => return Self::Closed,
            CorsClass::Listed => Self::Unlisted,
            CorsClass::All => Self::All,
        };
        let Some(origin) = origin else { return otherwise };
        let mut matching =
            cors.origins.iter().filter(|it| it.matches(origin.as_bytes())).peekable();
        if matching.peek().is_none() {
            return otherwise;
        }
        if matching.any(|pattern| !pattern.is_any()) {
            return Self::One(origin.clone(), cors.credentials);
        }
        Self::All
    }

    /// Whether the page that sends the request may read the answer.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::All | Self::One(..))
    }

    /// Adds the CORS fields (Fetch, section 3.3.2), and `Vary: Origin` for caches.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
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

    /// The answer to a preflight, if the request is one: the permission if the route is shared with
    /// its origin, a rejection if the settings list other origins. A preflight carries no token, so
    /// it is answered before authentication. `methods` are those of the route; `None` for a path
    /// without one.
    pub(super) fn preflight(
        &self,
        cors: &Cors,
        request: &Request,
        methods: Option<&'static str>,
    ) -> Option<Response> {
        let wanted = request.headers();
        if request.method() != Method::OPTIONS
            || !wanted.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        if *self == Self::Unlisted && !cors.origins.is_empty() {
            let detail =
                "pages of this origin may not use the hub; `cors_origins` names those that may";
            let problem = Problem::new(StatusCode::FORBIDDEN, detail).with("field", "Origin");
            let problem = problem.page_refused("preflight");
            return Some(problem.into_response());
        }
        let methods = methods.filter(|_| self.is_shared())?;
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age_s.into());
        // Private Network Access: a page from the internet may send requests to a hub in a private
        // network or on this machine only if its origin is listed.
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

const ALLOWED: &str = "Last-Event-ID, Authorization, Content-Type, Idempotency-Key, If-None-Match, \
                       Cache-Control, traceparent, tracestate, X-Request-Id";
const EXPOSED: &str = "Last-Event-ID, ETag, Retry-After, Idempotent-Replayed, X-Request-Id";
const PRIVATE_NETWORK_ASKED: &str = "access-control-request-private-network";
const PRIVATE_NETWORK_ALLOWED: &str = "access-control-allow-private-network";
