//! The hand-off of a socket: how a handler asks for it, and what the server does with it.

use std::{
    cell::RefCell,
    io::Write as _,
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Problem, problem::RETRY_AFTER_S};
use crate::{
    hub::{PollTicket, Subscriber},
    model::PollReply,
};

/// On a request: the server can hand its socket off after this one.
#[derive(Debug, Clone, Copy)]
pub struct HandoffAllowed;

/// On a request: the address it came in at.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress(pub SocketAddr);

/// On a request: it came in over TLS.
#[derive(Debug, Clone, Copy)]
pub struct Secure;

/// On a response: the server is to write its head and hand the socket off to a shard. The
/// response is an ordinary one otherwise, so that layers apply to it.
#[derive(Debug, Clone)]
pub struct HandoffRequest(Arc<Mutex<Option<Handoff>>>);

/// Who the socket is handed off to.
#[derive(Debug)]
pub struct Handoff {
    /// The admitted subscription.
    pub subscriber: Subscriber,
    /// Whether it waits for one answer rather than a stream.
    pub is_poll: bool,
}

impl HandoffRequest {
    pub(super) fn new(subscriber: Subscriber, is_poll: bool) -> Self {
        Self(Arc::new(Mutex::new(Some(Handoff { subscriber, is_poll }))))
    }

    /// Takes it, once.
    pub fn take(&self) -> Option<Handoff> {
        self.0.lock().take()
    }
}

impl Handoff {
    /// The head that goes before a stream. The stream ends with the connection: no length and no
    /// chunks, so every frame goes out as it is in history, and old proxies understand it too
    /// (RFC 9112, section 6.3, case 8).
    pub fn stream_head(parts: &response::Parts) -> Bytes {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        write_headers(&parts.headers, &mut head);
        write_date(&mut head);
        head.extend_from_slice(b"connection: close\r\n\r\n");
        head.into()
    }

    /// What a waiting poll keeps for its answer.
    pub fn ticket(parts: &response::Parts, keep_alive: bool) -> PollTicket {
        let header_lines = shared_lines(&parts.headers);
        PollTicket { header_lines, keep_alive, render: write_poll_response }
    }
}

impl Handoff {
    /// The response to a poll, with the head that was prepared for it. Without an answer its shard
    /// is gone, and the client is to ask again.
    pub fn poll_response(mut parts: response::Parts, reply: Option<PollReply>) -> Response<Body> {
        let Some(reply) = reply else {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the poll was cut short");
            return problem.retry_after(RETRY_AFTER_S).into_response();
        };
        parts.status = reply_status(&reply);
        set_reply_headers(&reply, &mut parts.headers);
        Response::from_parts(parts, Body::from(reply.body))
    }
}

/// The status of an answer to a poll.
pub(super) fn reply_status(reply: &PollReply) -> StatusCode {
    StatusCode::from_u16(reply.status).expect("encodings give known statuses")
}

/// The headers that an answer to a poll carries with its position and its form.
pub(super) fn set_reply_headers(reply: &PollReply, headers: &mut HeaderMap) {
    if let Some(media_type) = reply.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    let value = |text: String| HeaderValue::from_str(&text).expect("a position is ASCII");
    let position = reply.position.to_string();
    headers.insert(LAST_EVENT_ID, value(position.clone()));
    headers.insert(header::ETAG, value(format!("W/\"{position}\"")));
}

fn write_poll_response(reply: &PollReply, ticket: &PollTicket) -> Bytes {
    let position = reply.position;
    let mut out = Vec::with_capacity(256 + ticket.header_lines.len() + reply.body.len());
    let reason = if reply.status == 204 { "No Content" } else { "OK" };
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", reply.status);
    out.extend_from_slice(&ticket.header_lines);
    write_date(&mut out);
    let _ = write!(out, "last-event-id: {position}\r\netag: W/\"{position}\"\r\n");
    if let Some(media_type) = reply.content_type {
        let _ = write!(out, "content-type: {media_type}\r\n");
        let _ = write!(out, "content-length: {}\r\n", reply.body.len());
    }
    if !ticket.keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&reply.body);
    out.into()
}

/// Writes the `Date` that a server with a clock sends (RFC 9110, section 6.6.1). It is made anew
/// once a second.
fn write_date(out: &mut Vec<u8>) {
    thread_local! {
        static LINE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LINE.with_borrow_mut(|(of, line)| {
        if *of != second || line.is_empty() {
            *of = second;
            *line = format!("date: {}\r\n", httpdate::fmt_http_date(now));
        }
        out.extend_from_slice(line.as_bytes());
    });
}

/// The lines of a head that waits. Those of one poll are mostly those of the one before, and
/// thousands of them wait: equal ones that come in a row are one piece of memory.
fn shared_lines(headers: &HeaderMap) -> Bytes {
    thread_local! {
        static LAST: RefCell<(Vec<u8>, Bytes)> = const { RefCell::new((Vec::new(), Bytes::new())) };
    }
    LAST.with_borrow_mut(|(lines, last)| {
        lines.clear();
        write_headers(headers, lines);
        if *last != *lines {
            *last = Bytes::copy_from_slice(lines);
        }
        last.clone()
    })
}

fn write_headers(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        // The length and the end of the connection are up to the one that takes the socket.
        if name == header::CONTENT_LENGTH || name == header::CONNECTION {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// WHATWG HTML, section 9.2: where a client stands.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Room for the head of a response.
const HEAD_BYTES: usize = 384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_in_a_row_share_the_lines_of_their_heads_if_they_are_equal() {
        let lines = |value: &'static str| {
            let (mut parts, ()) = Response::new(()).into_parts();
            parts.headers.insert(header::VARY, HeaderValue::from_static(value));
            Handoff::ticket(&parts, true).header_lines
        };
        let (first, second) = (lines("Origin"), lines("Origin"));
        assert_eq!((&first[..], first.as_ptr()), (&b"vary: Origin\r\n"[..], second.as_ptr()));
        assert_eq!(&lines("*")[..], b"vary: *\r\n");
        assert_eq!(&lines("Origin")[..], &first[..]);
    }
}
