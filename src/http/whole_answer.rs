//! Small answers as bytes, which the server writes without hyper.

use std::io::Write as _;

use axum::{
    body::{HttpBody as _, to_bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use super::{
    answers::SMALL_BYTES_MAX,
    handoff::{HEAD_BYTES, write_date, write_headers},
};

/// The bytes of an answer to a GET of HTTP/1.1, after which the connection persists. Returns an
/// answer unchanged if its body is large or of unknown length, or if it has a `Connection` field.
pub(crate) async fn whole_answer(answer: Response) -> Result<Bytes, Response> {
    let is_small = answer.body().size_hint().exact().is_some_and(|bytes| bytes <= SMALL_BYTES_MAX);
    if !is_small || answer.headers().contains_key(header::CONNECTION) {
        return Err(answer);
    }
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, SMALL_BYTES_MAX as usize).await;
    let body = body.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", parts.status.as_str());
    write_headers(&parts.headers, &mut out);
    write_date(&mut out);
    // These statuses have no body, and the length would be that of another answer (RFC 9110,
    // section 8.6).
    if !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let _ = write!(out, "content-length: {}\r\n", body.len());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::http::incomplete_body::IncompleteBody;

    async fn written(answer: Response) -> Option<String> {
        let bytes = whole_answer(answer).await.ok()?;
        Some(String::from_utf8(bytes.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn an_answer_has_its_head_and_its_length() {
        let fields = [("x-a", "1"), ("x-b", "2"), ("content-length", "3")];
        let text = written((StatusCode::NOT_FOUND, fields, "abc").into_response()).await;
        let text = text.expect("it is small");
        let (head, rest) = text.split_once("date: ").expect("it is dated");
        assert_eq!(
            head,
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\nx-a: 1\r\nx-b: 2\r\n"
        );
        assert!(rest.ends_with(" GMT\r\ncontent-length: 3\r\n\r\nabc"), "{rest}");
    }

    #[tokio::test]
    async fn an_answer_without_a_body_has_a_length_unless_its_status_has_none() {
        for (status, has_length) in [
            (StatusCode::OK, true),
            (StatusCode::NO_CONTENT, false),
            (StatusCode::NOT_MODIFIED, false),
        ] {
            let text = written(status.into_response()).await.expect("it is small");
            assert_eq!(text.contains("content-length: 0\r\n"), has_length, "{status}");
            assert!(text.ends_with("\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn large_answers_and_those_that_end_the_connection_are_given_back() {
        let of = |bytes: u64| vec![b'x'; bytes as usize].into_response();
        assert!(written(of(SMALL_BYTES_MAX)).await.is_some());
        assert!(written(of(SMALL_BYTES_MAX + 1)).await.is_none());
        assert!(written(([(header::CONNECTION, "close")], "x").into_response()).await.is_none());
        let incomplete = Body::new(IncompleteBody::new(b"x".to_vec()));
        assert!(written(Response::new(incomplete)).await.is_none(), "of no known length");
    }
}
