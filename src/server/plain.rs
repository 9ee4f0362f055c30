//! Parses plain requests: a GET without a body and without unusual header fields, of which one read
//! has received the whole and nothing more.
//!
//! Most streams and polls begin with a plain request. It is dispatched without hyper, which would
//! be dropped as soon as the socket is handed off (docs/adr/024-plain-requests.md). hyper parses
//! all other requests, malformed ones included.

use std::mem::MaybeUninit;

use axum::body::Body;
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Uri, Version,
    header::{self, HeaderName, HeaderValue},
};

/// Parses `bytes` as a plain request, with the same result that hyper would have; `None` if they
/// are anything else.
pub(super) fn plain_request(bytes: &Bytes) -> Option<Request<Body>> {
    // A cheap check, at which most requests that are not plain fail.
    if !bytes.starts_with(b"GET /") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let mut fields = [MaybeUninit::uninit(); FIELDS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(bytes, &mut fields).ok()?;
    if parsed != httparse::Status::Complete(bytes.len()) || head.version != Some(1) {
        return None;
    }
    let uri = Uri::from_maybe_shared(bytes.slice_ref(head.path?.as_bytes())).ok()?;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if is_unusual(&name, field.value) {
            return None;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        headers.append(name, value);
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Some(request)
}

/// Whether hyper acts on a field: it announces a body, or changes how the connection is used.
fn is_unusual(name: &HeaderName, value: &[u8]) -> bool {
    match *name {
        header::CONNECTION => !value.eq_ignore_ascii_case(b"keep-alive"),
        header::CONTENT_LENGTH
        | header::TRANSFER_ENCODING
        | header::EXPECT
        | header::UPGRADE
        | header::TE
        | header::TRAILER => true,
        _ => false,
    }
}

/// Most fields of a plain request; a browser sends about 15. hyper parses a request with more.
const FIELDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Request<Body>> {
        plain_request(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_get_is_read_as_it_is() {
        let request = read(
            "GET /v1/events?channel=a&x HTTP/1.1\r\nHost: h:1\r\nX-A:  1 \r\nx-a: 2\r\nConnection: \
             Keep-Alive\r\nCookie: \x7f\r\n\r\n",
        );
        assert!(request.is_none(), "an invalid value");
        let request = read(
            "GET /v1/events?channel=a&x HTTP/1.1\r\nHost: h:1\r\nX-A:  1 \r\nx-a: 2\r\nConnection: \
             Keep-Alive\r\n\r\n",
        );
        let request = request.expect("it is plain");
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.uri(), "/v1/events?channel=a&x");
        let fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().expect("text")))
            .collect();
        assert_eq!(
            fields,
            [("host", "h:1"), ("x-a", "1"), ("x-a", "2"), ("connection", "Keep-Alive")]
        );
    }

    #[test]
    fn requests_that_are_not_plain_are_left_to_the_http_server() {
        assert!(read("GET / HTTP/1.1\r\n\r\n").is_some(), "the routes say what is missing");
        for text in [
            "",
            "GET / HTTP/1.1\r\nHost: h\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\r\nG",
            "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\n\r\n",
            "get / HTTP/1.1\r\nHost: h\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /{ }  HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\ncOnTent-lEngth: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n",
        ] {
            assert!(read(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn fields_are_read_up_to_a_bound() {
        let of = |fields| format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(fields));
        assert!(read(&of(FIELDS_MAX)).is_some());
        assert!(read(&of(FIELDS_MAX + 1)).is_none());
    }

    #[test]
    fn every_cut_of_a_plain_request_is_not_plain() {
        let text = "GET /v1/poll?channel=a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n";
        assert!(read(text).is_some());
        assert!((0..text.len()).all(|cut| read(&text[..cut]).is_none()));
    }
}
