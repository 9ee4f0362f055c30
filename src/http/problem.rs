//! Rejections as RFC 9457 problem documents: the only file where errors become status codes.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use crate::hub::{CloseError, PublishError, SubscribeError};

/// A refusal. Boxed, since it travels in the errors of almost every function of this layer.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    detail: String,
    members: Map<String, Value>,
    retry_after_s: Option<u32>,
    close: bool,
    allow: Option<&'static str>,
    challenge: Option<String>,
    limit_exceeded: Option<LimitExceeded>,
}

/// The bound that a refused request exceeds, by its word in metrics. It travels on the response to
/// the request checks, which have a hub to count it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitExceeded(pub(super) &'static str);

impl Problem {
    /// A refusal with a status and what exactly is wrong.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            detail: detail.into(),
            members: Map::new(),
            retry_after_s: None,
            close: false,
            allow: None,
            challenge: None,
            limit_exceeded: None,
        }))
    }

    /// A bad value of `field`: 400.
    pub fn field(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).with("field", field)
    }

    /// 405, with the methods that the resource has.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let mut problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this resource takes {allow}"));
        problem.0.allow = Some(allow);
        problem
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// Says to try again soon: in a time of its own for each client, so that not all come at once.
    #[must_use]
    pub fn retry_soon(self) -> Self {
        self.retry_after(fastrand::u32(RETRY_AFTER_S))
    }

    /// Says what is wrong with the token that was shown (RFC 6750, section 3).
    #[must_use]
    pub fn challenge(mut self, error: &str, description: &str) -> Self {
        let quotable = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        let description: String = description.chars().filter(quotable).collect();
        let challenge = format!("Bearer error=\"{error}\", error_description=\"{description}\"");
        self.0.challenge = Some(challenge);
        self
    }

    /// Says that a token is needed.
    #[must_use]
    pub fn challenge_bare(mut self) -> Self {
        self.0.challenge = Some("Bearer realm=\"visnyk\"".to_owned());
        self
    }

    /// Names the bound that the request exceeds, so that it is counted.
    #[must_use]
    pub(super) fn limit_exceeded(mut self, bound: &'static str) -> Self {
        self.0.limit_exceeded = Some(LimitExceeded(bound));
        self
    }

    /// Closes the connection: further bytes on it cannot be trusted.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What is wrong.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let limit_exceeded = self.0.limit_exceeded;
        let (status, headers, document) = self.into_parts();
        let mut response = (status, headers, document).into_response();
        if let Some(limit_exceeded) = limit_exceeded {
            response.extensions_mut().insert(limit_exceeded);
        }
        response
    }
}

impl Problem {
    /// The parts of the response.
    pub(super) fn into_parts(self) -> (StatusCode, HeaderMap, String) {
        let Parts {
            status,
            detail,
            members,
            retry_after_s,
            close,
            allow,
            challenge,
            limit_exceeded: _,
        } = *self.0;
        let mut document = Map::new();
        document.insert("type".into(), "about:blank".into());
        let title = status.canonical_reason().unwrap_or("Error");
        document.insert("title".into(), title.into());
        document.insert("status".into(), status.as_u16().into());
        document.insert("detail".into(), detail.into());
        document.extend(members);
        let mut headers = HeaderMap::new();
        let media_type = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, media_type);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        (status, headers, Value::Object(document).to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Empty => Self::field("body", detail),
            PublishError::TooMany { events_max } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
                    .with("field", "body")
                    .with("events_max", events_max)
                    .limit_exceeded("too_many_events")
            }
            PublishError::Closed(name) => {
                Self::new(StatusCode::GONE, detail).with("channel", name.as_str())
            }
            PublishError::KeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("field", "Idempotency-Key")
            }
            PublishError::TooFast { wait_ms, .. }
            | PublishError::TooManyNewChannels { wait_ms } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(whole_s(wait_ms))
            }
            PublishError::OverBurst { events_max, .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
                    .with("field", "body")
                    .with("events_max", events_max)
            }
            PublishError::StorageFull => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, detail).retry_after(STORAGE_RETRY_S)
            }
            // RFC 9457, section 3.1.1: a client tells it from the 504 of a proxy.
            PublishError::Unknown => Self::new(StatusCode::GATEWAY_TIMEOUT, detail)
                .with("type", "outcome-unknown")
                .retry_soon(),
            PublishError::Overloaded { .. }
            | PublishError::TooManyBodies { .. }
            | PublishError::DirectoryFull(_)
            | PublishError::BackendAway
            | PublishError::GoingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_soon()
            }
        }
    }
}

impl From<CloseError> for Problem {
    fn from(error: CloseError) -> Self {
        match error {
            CloseError::NoSuchChannel(ref name) => {
                Self::new(StatusCode::NOT_FOUND, error.to_string()).with("channel", name.as_str())
            }
            CloseError::Publish(error) => error.into(),
        }
    }
}

/// For polls; streams have their own way (see `stream`).
impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        let detail = error.to_string();
        match error {
            SubscribeError::Closed => Self::new(StatusCode::GONE, detail),
            SubscribeError::TooManyOfAddress { .. } | SubscribeError::TooManyOfSubject { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_soon()
            }
            SubscribeError::TooManyNewChannels { wait_ms } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(whole_s(wait_ms))
            }
            SubscribeError::TooManyConnections { .. }
            | SubscribeError::TooManyReplays { .. }
            | SubscribeError::DirectoryFull(_)
            | SubscribeError::NotCaughtUp
            | SubscribeError::GoingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_soon()
            }
        }
    }
}

/// Seconds that are no less than a wait, and no less than one.
fn whole_s(wait_ms: u64) -> u32 {
    u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

/// What a full disk asks for, in seconds: room comes as old segments go.
const STORAGE_RETRY_S: u32 = 10;
/// What temporary rejections ask for, in seconds.
const RETRY_AFTER_S: std::ops::RangeInclusive<u32> = 2..=4;
