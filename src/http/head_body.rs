//! Answers to HEAD: their body is empty, but `Content-Length` is not 0.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::Response,
};
use http_body::{Body as _, Frame, SizeHint};

/// Removes the body of an answer to GET and keeps its length in `Content-Length`, if it is known
/// (RFC 9110, section 9.3.2). With an ordinary empty body a server would send a length of 0.
pub(super) fn without_body(mut response: Response) -> Response {
    if let Some(length) = response.body().size_hint().exact()
        && length > 0
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response.map(|_| unsized_body())
}

/// A body without bytes, whose length a server does not know.
fn unsized_body() -> Body {
    Body::new(Unsized)
}

struct Unsized;

impl http_body::Body for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
