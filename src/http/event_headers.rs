//! The headers of streams and of answers to polls.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

pub(super) fn stream_headers() -> HeaderMap {
    headers_of(STREAM_HEADERS)
}

pub(super) fn poll_headers() -> HeaderMap {
    headers_of(POLL_HEADERS)
}

fn headers_of(fields: [(HeaderName, &'static str); 3]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

pub(super) const STREAM_HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
    (header::CACHE_CONTROL, "private, no-cache, no-store, no-transform"),
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

const POLL_HEADERS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "0"),
];

/// Initial capacity for the fields of a response, with those that every answer has.
const HEADERS: usize = 8;
