//! Writes the answers to connections that are rejected over a limit, without hyper. All that an
//! answer depends on is the head of the first request.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderValue, StatusCode};

use super::{
    HttpSettings, Problem,
    cors::Sharing,
    event_headers::STREAM_HEADERS,
    route_policy::{Exposure, route_of},
    security_headers::{add_hsts, add_security_headers},
    stream::names_stream,
    weighted_list::weighted_list,
};
use crate::model::{TransferCoding, comment_block};

/// Writes the answers to rejected connections.
#[derive(Debug, Clone)]
pub struct RejectionWriter {
    settings: Arc<HttpSettings>,
    retry_ms: std::ops::RangeInclusive<u32>,
}

/// Why a connection is rejected, and when its client may retry.
#[derive(Debug, Clone)]
pub struct TemporaryRejection {
    status: StatusCode,
    detail: &'static str,
    retry_after_s: Option<u32>,
}

impl TemporaryRejection {
    /// The hub's connection limit is reached.
    pub fn full() -> Self {
        Self::hub_fault("the hub has as many connections as it can")
    }

    /// A limit of the hub is reached: 503.
    pub fn hub_fault(detail: &'static str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, detail, retry_after_s: None }
    }

    /// A limit of the client is reached: 429.
    pub fn client_fault(detail: &'static str) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, ..Self::hub_fault(detail) }
    }

    /// Whether it is a limit of the client.
    pub fn is_client_fault(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// Adds when to retry, in whole seconds and at least one.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let wait_s = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
        Self { retry_after_s: Some(wait_s.max(1)), ..self }
    }
}

impl RejectionWriter {
    /// A writer with the headers of `settings`. Rejected streams get a random reconnection time
    /// within `retry_ms`.
    pub fn new(settings: &HttpSettings, retry_ms: std::ops::RangeInclusive<u32>) -> Self {
        Self::of_shared(Arc::new(settings.clone()), retry_ms)
    }

    /// The same, without a copy of the settings.
    pub(super) fn of_shared(
        settings: Arc<HttpSettings>,
        retry_ms: std::ops::RangeInclusive<u32>,
    ) -> Self {
        Self { settings, retry_ms }
    }

    /// The whole response to a request with this head, of which the end may be missing. The
    /// connection ends after the response.
    ///
    /// A GET or HEAD that accepts `text/event-stream` gets 200 with a comment and a `retry:`, since
    /// an EventSource does not reconnect after any other status. All other requests get 503 or 429.
    /// A POST with such an `Accept` does too: a 200 would mean that its event was published.
    pub fn answer(&self, head: &[u8], why: &TemporaryRejection) -> Vec<u8> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let is_safe = matches!(words.next(), Some("GET" | "HEAD"));
        let path = words.next().unwrap_or_default().split('?').next().unwrap_or_default();
        let coding = match words.next() {
            Some("HTTP/1.1") => TransferCoding::Chunked,
            _ => TransferCoding::None,
        };
        let (mut accepts_stream, mut origin) = (false, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("accept") {
                accepts_stream |= names_stream(weighted_list(value));
            } else if name.eq_ignore_ascii_case("origin") {
                origin = HeaderValue::from_str(value.trim()).ok();
            }
        }
        let detail = why.detail;
        let (status, mut fields, body, framing) =
            if is_safe && accepts_stream && !self.settings.plain_refusals {
                let retry_ms = fastrand::u32(self.retry_ms.clone());
                let fields =
                    STREAM_HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
                let block = comment_block(&format!("refused: {detail}"), retry_ms);
                let mut body = Vec::new();
                coding.wrap(&mut body, |out| out.extend_from_slice(&block));
                // Without a last chunk or a length, so that the client reconnects.
                let framing = match coding {
                    TransferCoding::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
                    TransferCoding::None => "connection: close\r\n".to_owned(),
                };
                (StatusCode::OK, HeaderMap::from_iter(fields), body, framing)
            } else {
                let problem = Problem::new(why.status, detail);
                let problem = match why.retry_after_s {
                    Some(seconds) => problem.retry_after(seconds),
                    None => problem.retry_soon(),
                };
                let (status, headers, body) = problem.into_parts();
                let framing = format!("content-length: {}\r\nconnection: close\r\n", body.len());
                (status, headers, body.into_bytes(), framing)
            };
        let matched = route_of(path, &self.settings);
        let exposure = matched.map_or(Exposure::Api, |matched| matched.route.exposure);
        Sharing::of(&self.settings.cors, exposure.cors_class(), origin.as_ref())
            .add_headers(&mut fields);
        add_security_headers(&mut fields);
        // The settings allow HSTS only with TLS.
        if self.settings.hsts_max_age_s > 0 {
            add_hsts(&mut fields, self.settings.hsts_max_age_s);
        }
        let mut response = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in &fields {
            response.extend_from_slice(name.as_str().as_bytes());
            response.extend_from_slice(b": ");
            response.extend_from_slice(value.as_bytes());
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(format!("{framing}\r\n").as_bytes());
        response.extend_from_slice(&body);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(plain: bool, head: &str) -> String {
        let settings = HttpSettings { plain_refusals: plain, ..HttpSettings::default() };
        let answer = RejectionWriter::new(&settings, 5..=7)
            .answer(head.as_bytes(), &TemporaryRejection::full());
        String::from_utf8(answer).expect("text")
    }

    #[test]
    fn an_event_source_gets_200_with_a_retry_time_and_others_503() {
        let stream =
            "GET /v1/events?channel=a HTTP/1.1\r\nHost: a\r\nACCEPT: text/event-stream\r\n\r\n";
        let response = answer(false, stream);
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("content-type: text/event-stream"), "{response}");
        let (head, body) = response.split_once("\r\n\r\n").expect("a body");
        assert!(head.ends_with("\r\ntransfer-encoding: chunked"), "{response}");
        let (size, block) = body.split_once("\r\n").expect("a chunk");
        assert_eq!(Ok(block.len() - 2), usize::from_str_radix(size, 16), "one chunk, not the last");
        assert!(block.starts_with(": refused: "), "{response}");
        assert!(["5", "6", "7"].iter().any(|ms| block.ends_with(&format!("retry: {ms}\n\n\r\n"))));
        let old = answer(false, &stream.replace("HTTP/1.1", "HTTP/1.0"));
        assert!(old.contains("\r\nconnection: close\r\n\r\n: refused: "), "{old}");
        assert!(!old.contains("chunked") && !old.contains("content-length"), "{old}");
        assert!(!response.contains("access-control"), "{response}");
        for (plain, head) in
            [(true, stream), (false, "GET / HTTP/1.1\r\n\r\n"), (false, ""), (false, "\u{0}")]
        {
            let response = answer(plain, head);
            assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
            let jittered = ["2", "3", "4"].map(|s| format!("\r\nretry-after: {s}\r\n"));
            assert!(jittered.iter().any(|field| response.contains(field)), "{response}");
            let (head, body) = response.split_once("\r\n\r\n").expect("a body");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{response}");
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{response}");
        }
    }

    #[test]
    fn a_client_accepts_a_stream_if_it_names_its_media_type_with_a_weight() {
        for (accepted, status) in [
            ("text/event-stream", "200"),
            ("Text/Event-Stream", "200"),
            ("text/html, text/event-stream;q=0.1", "200"),
            ("text/event-stream;q=0", "503"),
            ("text/event-stream;Q=0.0, */*", "503"),
            ("text/event-streams", "503"),
            ("a/b;c=\"text/event-stream\"", "503"),
            ("a/b;c=\",text/event-stream,\"", "503"),
        ] {
            let response =
                answer(false, &format!("GET /v1/events HTTP/1.1\r\nAccept: {accepted}\r\n\r\n"));
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{accepted}: {response}");
        }
    }

    #[test]
    fn only_reads_get_200() {
        let fields = "Accept: application/json, text/event-stream\r\n\r\n";
        for (method, status) in
            [("GET", "200"), ("HEAD", "200"), ("POST", "503"), ("PUT", "503"), ("get", "503")]
        {
            let response = answer(false, &format!("{method} /v1/events HTTP/1.1\r\n{fields}"));
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{method}: {response}");
        }
    }

    #[test]
    fn a_client_over_its_limit_gets_429_with_a_retry_time() {
        for (wait_ms, told_s) in [(1, 1), (1_000, 1), (1_001, 2), (0, 1)] {
            let why =
                TemporaryRejection::client_fault("too often").after(Duration::from_millis(wait_ms));
            let writer = RejectionWriter::new(&HttpSettings::default(), 5..=7);
            let response = writer.answer(b"GET /v1/poll HTTP/1.1\r\n\r\n", &why);
            let response = String::from_utf8(response).expect("text");
            assert!(response.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{response}");
            assert!(response.contains(&format!("\r\nretry-after: {told_s}\r\n")), "{response}");
            assert!(response.contains("too often"), "{response}");
        }
    }

    #[test]
    fn a_rejection_has_hsts_too() {
        for (hsts_max_age_s, response) in [(0, false), (60, true)] {
            let settings = HttpSettings { hsts_max_age_s, ..HttpSettings::default() };
            let writer = RejectionWriter::new(&settings, 5..=7);
            let answer = writer.answer(b"GET / HTTP/1.1\r\n\r\n", &TemporaryRejection::full());
            let answer = String::from_utf8(answer).expect("text");
            let field = "\r\nstrict-transport-security: max-age=60\r\n";
            assert_eq!(answer.contains(field), response, "{answer}");
        }
    }

    #[test]
    fn pages_of_other_origins_may_read_it_where_they_may_read_the_answer() {
        for path in ["/events", "/subscribe?after=1", "/publish"] {
            let response =
                answer(false, &format!("GET {path} HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n"));
            assert!(response.contains("access-control-allow-origin: *\r\n"), "{response}");
        }
    }
}
