//! Rejections as RFC 9457 problem documents: the only file where errors become status codes.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

use super::request_id::RequestId;
use crate::{
    hub::{CloseError, PublishError, SubscribeError},
    telemetry::TraceId,
};

/// An error that is answered with a problem document. It is boxed, since almost every function of
/// this layer returns it in a `Result`, which would be large.
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
    counted_as: Option<CountedAs>,
}

/// The metric that counts a rejected request, with its label. It is an extension of the response,
/// and `RequestChecks`, which has the metrics of the hub, counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountedAs {
    /// Requests that exceed a limit.
    LimitExceeded(&'static str),
    /// Requests without a valid token, or without the permission.
    AuthRefused(&'static str),
    /// Requests of pages that may not send them, or for other hosts.
    PageRefused(&'static str),
}

impl Problem {
    /// A problem with a status and a detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            detail: detail.into(),
            members: Map::new(),
            retry_after_s: None,
            close: false,
            allow: None,
            challenge: None,
            counted_as: None,
        }))
    }

    /// 400: `field` has an invalid value.
    pub fn field(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).with("field", field)
    }

    /// 405, with the methods of the resource.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let mut problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this resource takes {allow}"));
        problem.0.allow = Some(allow);
        problem
    }

    /// Adds a member to the document.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds the id of the request, by which an operator finds its lines in the log.
    #[must_use]
    pub(super) fn with_request_id(self, id: &RequestId) -> Self {
        self.with("request_id", id.to_string())
    }

    /// Adds the id of the request's trace, if it is sampled.
    #[must_use]
    pub(super) fn with_trace_id(self, trace: Option<TraceId>) -> Self {
        match trace {
            Some(id) => self.with("trace_id", id.to_string()),
            None => self,
        }
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// Adds a `Retry-After` of a few seconds, random so that clients do not all retry at once.
    #[must_use]
    pub fn retry_soon(self) -> Self {
        self.retry_after(fastrand::u32(RETRY_AFTER_S))
    }

    /// Adds `WWW-Authenticate` with the error of the token (RFC 6750, section 3).
    #[must_use]
    pub fn challenge(mut self, error: &str, description: &str) -> Self {
        let quotable = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        let description: String = description.chars().filter(quotable).collect();
        let challenge = format!("Bearer error=\"{error}\", error_description=\"{description}\"");
        self.0.challenge = Some(challenge);
        self
    }

    /// Adds `WWW-Authenticate` without an error: a token is required.
    #[must_use]
    pub fn challenge_bare(mut self) -> Self {
        self.0.challenge = Some("Bearer realm=\"visnyk\"".to_owned());
        self
    }

    /// Counts the answer under `bound` in the metric of exceeded limits.
    #[must_use]
    pub(super) fn limit_exceeded(mut self, bound: &'static str) -> Self {
        self.0.counted_as = Some(CountedAs::LimitExceeded(bound));
        self
    }

    /// Counts the answer under `why` in the metric of refused authentications.
    #[must_use]
    pub(super) fn auth_refused(mut self, why: &'static str) -> Self {
        self.0.counted_as = Some(CountedAs::AuthRefused(why));
        self
    }

    /// Counts the answer under `why` in the metric of refused pages.
    #[must_use]
    pub(super) fn page_refused(mut self, why: &'static str) -> Self {
        self.0.counted_as = Some(CountedAs::PageRefused(why));
        self
    }

    /// Adds `Connection: close`: the rest of the request is not read, so the start of a next
    /// request could not be found.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.0.close = true;
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The detail.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let counted_as = self.0.counted_as;
        let (status, headers, document) = self.into_parts();
        let mut response = (status, headers, document).into_response();
        if let Some(counted_as) = counted_as {
            response.extensions_mut().insert(counted_as);
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
            counted_as: _,
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
            // It has a `type` of its own (RFC 9457, section 3.1.1), by which clients distinguish it
            // from the 504 of a proxy.
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

/// For polls. Streams are rejected in `stream`, so that an EventSource reconnects.
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
            SubscribeError::HistoryUnreadable => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
            SubscribeError::TooManyConnections { .. }
            | SubscribeError::TooManyReplays { .. }
            | SubscribeError::HistoryBusy
            | SubscribeError::DirectoryFull(_)
            | SubscribeError::NotCaughtUp
            | SubscribeError::GoingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_soon()
            }
        }
    }
}

/// Milliseconds in whole seconds, rounded up, and at least one.
fn whole_s(wait_ms: u64) -> u32 {
    u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

/// `Retry-After` while the disk is full, in seconds. The removal of old segments frees space.
const STORAGE_RETRY_S: u32 = 10;
/// `Retry-After` of temporary rejections, in seconds.
const RETRY_AFTER_S: std::ops::RangeInclusive<u32> = 2..=4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_to_try_again_are_spread() {
        let later =
            || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "x").retry_soon().0.retry_after_s;
        let times: std::collections::BTreeSet<_> = (0..200).filter_map(|_| later()).collect();
        assert_eq!(times, RETRY_AFTER_S.collect());
    }
}
