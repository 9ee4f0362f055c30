//! The outcome of a request: a response, or the hand-off of its socket to a shard; with the
//! response heads that are written on such a socket.

use std::{
    cell::RefCell,
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use super::{
    Problem,
    answer_marks::AnswerMarks,
    event_headers::{poll_headers, stream_headers},
    request_id::RequestId,
};
use crate::{
    hub::{PollTicket, Subscriber},
    model::{PollReply, TransferCoding},
};

/// The result of a handler.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A response.
    Response(Response),
    /// The answer to a poll that does not wait.
    Reply(Reply),
    /// A stream or a waiting poll: the server hands the socket off to a shard.
    Handoff(Handoff),
}

impl Outcome {
    /// The status of the response. A hand-off has none yet: the request was accepted, which is a
    /// 200.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Response(response) => response.status(),
            Self::Reply(Reply { reply, .. }) => status_of(reply),
            Self::Handoff(_) => StatusCode::OK,
        }
    }
}

/// The answer to a poll that does not wait.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(super) reply: PollReply,
    /// What the checks of its request add to its headers.
    pub(super) marks: AnswerMarks,
}

impl Reply {
    /// What a handler answers. The dispatcher sets the marks.
    pub(super) fn new(reply: PollReply) -> Self {
        Self { reply, marks: AnswerMarks::NONE }
    }

    /// The response for an HTTP server.
    pub(crate) fn into_response(self) -> Response {
        poll_response(headers(true, &self.marks), self.reply)
    }

    /// The bytes of the response to a GET of HTTP/1.1, after which the connection persists.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        let request_id = self.marks.request_id.take();
        write_reply(&self.reply, &shared_lines(&self.marks), request_id.as_ref(), true)
    }
}

/// The hand-off of a request's socket. Only a GET without a body leads to one.
#[derive(Debug)]
pub struct Handoff {
    /// The admitted subscription.
    pub(crate) subscriber: Subscriber,
    /// Whether it waits for one answer rather than a stream.
    pub(crate) is_poll: bool,
    /// What the checks of its request add to the headers of the stream or of the answer.
    pub(super) marks: AnswerMarks,
}

impl Handoff {
    /// What a handler hands off. The dispatcher sets the marks.
    pub(super) fn new(subscriber: Subscriber, is_poll: bool) -> Self {
        Self { subscriber, is_poll, marks: AnswerMarks::NONE }
    }

    /// The headers of the stream or of the answer.
    pub(crate) fn headers(&self) -> HeaderMap {
        headers(self.is_poll, &self.marks)
    }

    /// The response head of a stream, after which the connection always ends. For an HTTP/1.0
    /// client, which knows no chunks, the end of the connection is the end of the body (RFC 9112,
    /// sections 6.1 and 6.3).
    pub(crate) fn stream_head(&self, coding: TransferCoding) -> Bytes {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        write_headers(&self.headers(), &mut head);
        write_date(&mut head);
        head.extend_from_slice(match coding {
            // No `Connection: close` with chunks: with it undici accepts a missing last chunk as
            // the end of the body.
            TransferCoding::Chunked => b"transfer-encoding: chunked\r\n\r\n",
            TransferCoding::None => b"connection: close\r\n\r\n",
        });
        head.into()
    }

    /// The ticket of a waiting poll: the parts of its response that are known already. It takes
    /// over the access log record of the poll, if there is one.
    pub(crate) fn ticket(&mut self, keep_alive: bool) -> PollTicket {
        let header_lines = shared_lines(&self.marks);
        match self.subscriber.record.take() {
            None => Self::ticket_of(header_lines, keep_alive),
            record => PollTicket {
                render: write_logged_poll_response,
                record,
                ..Self::ticket_of(header_lines, keep_alive)
            },
        }
    }

    /// The ticket of a poll whose answer has these lines in its head.
    pub fn ticket_of(header_lines: Bytes, keep_alive: bool) -> PollTicket {
        PollTicket { header_lines, keep_alive, render: write_poll_response, record: None }
    }
}

/// The response to a poll, with the headers that were prepared for it.
pub(crate) fn poll_response(headers: HeaderMap, reply: PollReply) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status_of(&reply);
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    if let Some(media_type) = reply.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    let value = |text: String| HeaderValue::from_str(&text).expect("a position is ASCII");
    let position = reply.position.to_string();
    headers.insert(LAST_EVENT_ID, value(position.clone()));
    headers.insert(header::ETAG, value(format!("W/\"{position}\"")));
    *response.body_mut() = Body::from(reply.body);
    response
}

fn status_of(reply: &PollReply) -> StatusCode {
    StatusCode::from_u16(reply.status).expect("encodings give known statuses")
}

/// The response to a poll whose shard ended before it answered.
pub(crate) fn poll_cut_short() -> Response {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the poll was cut short");
    problem.retry_soon().into_response()
}

fn write_poll_response(reply: &PollReply, ticket: &PollTicket) -> Bytes {
    write_reply(reply, &ticket.header_lines, None, ticket.keep_alive)
}

fn write_reply(
    reply: &PollReply,
    header_lines: &[u8],
    request_id: Option<&RequestId>,
    keep_alive: bool,
) -> Bytes {
    let mut out = Vec::with_capacity(256 + header_lines.len() + reply.body.len());
    out.extend_from_slice(match reply.status {
        204 => b"HTTP/1.1 204 No Content\r\n",
        _ => b"HTTP/1.1 200 OK\r\n",
    });
    out.extend_from_slice(header_lines);
    if let Some(request_id) = request_id {
        request_id.write_line(&mut out);
    }
    write_date(&mut out);
    out.extend_from_slice(b"last-event-id: ");
    reply.position.write_to(&mut out);
    out.extend_from_slice(b"\r\netag: W/\"");
    reply.position.write_to(&mut out);
    out.extend_from_slice(b"\"\r\n");
    if let Some(media_type) = reply.content_type {
        let length = reply.body.len();
        let _ = write!(out, "content-type: {media_type}\r\ncontent-length: {length}\r\n");
    }
    if !keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&reply.body);
    out.into()
}

fn write_logged_poll_response(reply: &PollReply, ticket: &PollTicket) -> Bytes {
    if let Some(record) = &ticket.record {
        record.answered(reply.status, Some(reply.body.len() as u64));
    }
    write_poll_response(reply, ticket)
}

/// Writes the `Date` field (RFC 9110, section 6.6.1). The line is formatted once a second.
pub(super) fn write_date(out: &mut Vec<u8>) {
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

fn headers(is_poll: bool, marks: &AnswerMarks) -> HeaderMap {
    let mut headers = if is_poll { poll_headers() } else { stream_headers() };
    marks.add_to(&mut headers);
    headers
}

/// The header lines of a poll's answer. Those of thousands of polls are equal, so consecutive polls
/// with equal marks share their memory. Lines with the id of one request are not kept for others.
fn shared_lines(marks: &AnswerMarks) -> Bytes {
    thread_local! {
        static LAST: RefCell<Option<(AnswerMarks, Bytes)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((of, lines)) if of == marks => lines.clone(),
        last => {
            let mut lines = Vec::with_capacity(HEAD_BYTES);
            write_headers(&headers(true, marks), &mut lines);
            let lines = Bytes::from(lines);
            if marks.request_id.is_none() {
                *last = Some((marks.clone(), lines.clone()));
            }
            lines
        }
    })
}

pub(super) fn write_headers(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        // The code that writes to the socket adds the length and `Connection`.
        if name == header::CONTENT_LENGTH || name == header::CONNECTION {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The field with a client's position (WHATWG HTML, section 9.2).
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Initial capacity for a response head, in bytes.
pub(super) const HEAD_BYTES: usize = 384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::cors::Sharing;

    #[test]
    fn polls_in_a_row_share_the_lines_of_their_heads_if_they_are_equal() {
        let lines = |sharing| shared_lines(&AnswerMarks { sharing, ..AnswerMarks::NONE });
        let (first, second) = (lines(Sharing::Unlisted), lines(Sharing::Unlisted));
        assert_eq!(first.as_ptr(), second.as_ptr());
        let text = |lines: &Bytes| String::from_utf8(lines.to_vec()).expect("text");
        let is_for_all = |lines: &Bytes| text(lines).contains("access-control-allow-origin: *\r\n");
        assert!(text(&first).contains("vary: Origin\r\n") && !is_for_all(&first));
        assert!(text(&first).starts_with("cache-control: no-cache, no-store, must-revalidate\r\n"));
        assert!(is_for_all(&lines(Sharing::All)));
        assert_eq!(&lines(Sharing::Unlisted)[..], &first[..]);
    }
}
