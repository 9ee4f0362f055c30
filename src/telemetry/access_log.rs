//! The access log: a line for each request, written when it is over.
//!
//! A record of the request travels with it and writes the line when it is dropped, so that every
//! request has one, however it ends. The target in the line has no tokens.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use http::{Method, Uri};

use super::{RouteClass, TraceId};

/// One request, until its line is written.
#[derive(Debug)]
pub struct AccessRecord {
    began: Instant,
    method: Method,
    route: RouteClass,
    url: String,
    request_id: String,
    trace: Option<TraceId>,
    client: Option<IpAddr>,
    subject: Option<Arc<str>>,
    /// Its status, and the bytes of its body if they are counted.
    answer: OnceLock<(u16, Option<u64>)>,
    ended: Option<&'static str>,
    position: Option<String>,
}

impl AccessRecord {
    /// The record of a request that has just arrived.
    pub fn new(
        method: &Method,
        route: RouteClass,
        target: &Uri,
        request_id: String,
        client: Option<IpAddr>,
    ) -> Self {
        Self {
            began: Instant::now(),
            method: method.clone(),
            route,
            url: shown(target),
            request_id,
            trace: None,
            client,
            subject: None,
            answer: OnceLock::new(),
            ended: None,
            position: None,
        }
    }

    /// Notes the trace that it belongs to, if it is sampled.
    pub fn set_trace(&mut self, trace: Option<TraceId>) {
        self.trace = trace;
    }

    /// Notes the subject of its token.
    pub fn set_subject(&mut self, subject: Option<Arc<str>>) {
        self.subject = subject;
    }

    /// Notes how it is answered, once. The bytes of a stream are not counted.
    pub fn answered(&self, status: u16, bytes: Option<u64>) {
        let _ = self.answer.set((status, bytes));
    }

    /// Notes why a stream ended, and up to where its client has been sent everything.
    pub fn stream_ended(&mut self, reason: &'static str, position: String) {
        (self.ended, self.position) = (Some(reason), Some(position));
    }

    /// Notes that the client left before it had the whole answer.
    pub fn cut_short(&mut self) {
        self.ended = Some(CUT_SHORT);
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let answer = self.answer.get();
        let bytes = answer.and_then(|(_, bytes)| *bytes);
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            target: TARGET,
            method = self.method.as_str(),
            route = self.route.as_str(),
            url = self.url,
            status = answer.map(|(status, _)| *status),
            bytes,
            duration_ms = micros as f64 / 1_000.0,
            client = self.client.map(tracing::field::display),
            subject = self.subject.as_deref(),
            ended = self.ended.or(answer.is_none().then_some(CUT_SHORT)),
            position = self.position,
            request_id = self.request_id,
            trace_id = self.trace.map(tracing::field::display),
            "request"
        );
    }
}

/// The path, and of the query the parameters that the hub knows and that hold no secret. A token
/// is left out, whatever its name is.
fn shown(target: &Uri) -> String {
    let mut shown = cut(target.path()).to_owned();
    let mut mark = '?';
    for pair in target.query().unwrap_or_default().split('&') {
        let name = pair.split('=').next().unwrap_or_default();
        if SHOWN_PARAMETERS.contains(&name) && shown.len() + pair.len() < TARGET_BYTES_MAX {
            shown.push(mark);
            shown += pair;
            mark = '&';
        }
    }
    shown
}

/// A target is ASCII, so it may be cut anywhere.
fn cut(path: &str) -> &str {
    path.get(..TARGET_BYTES_MAX).unwrap_or(path)
}

/// The target of these lines, by which log filters select them.
pub(super) const TARGET: &str = concat!(env!("CARGO_CRATE_NAME"), "::access");
const CUT_SHORT: &str = "cut_short";
/// Bytes of a request's target in a line.
const TARGET_BYTES_MAX: usize = 512;
const SHOWN_PARAMETERS: [&str; 15] = [
    "after",
    "channel",
    "format",
    "hello",
    "last",
    "last_event_id",
    "lastEventId",
    "lastEventID",
    "limit",
    "retry",
    "slow",
    "subject",
    "timeout",
    "transport",
    "type",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_no_parameter_that_may_hold_a_secret() {
        for (target, expected) in [
            (
                "/v1/events?channel=a&channel=b%2F**&token=secret",
                "/v1/events?channel=a&channel=b%2F**",
            ),
            ("/v1/events?token=secret&type=t", "/v1/events?type=t"),
            ("/v1/events?%74oken=secret&access_token=secret&Channel=secret", "/v1/events"),
            ("/v1/channels/a%2Fb/events?", "/v1/channels/a%2Fb/events"),
            ("/", "/"),
            ("*", "*"),
        ] {
            assert_eq!(shown(&target.parse().expect("a target")), expected);
        }
    }

    #[test]
    fn a_target_is_shown_up_to_a_bound() {
        for bytes in [TARGET_BYTES_MAX - 1, TARGET_BYTES_MAX, TARGET_BYTES_MAX + 1] {
            let path = format!("/{}", "x".repeat(bytes - 1));
            let target = shown(&path.parse().expect("a target"));
            assert_eq!(target, path[..bytes.min(TARGET_BYTES_MAX)]);
            let query = format!("/?channel={}", "x".repeat(bytes));
            assert_eq!(shown(&query.parse().expect("a target")), "/");
        }
    }
}
