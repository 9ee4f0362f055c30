//! A chunked body whose connection is closed before the last chunk. By that the client knows that
//! the message is incomplete (RFC 9112, section 8), and an EventSource reconnects.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::Frame;

/// An extension of the response, which marks that its body ends incomplete. The head of such a
/// response must not have `Connection: close`: with that field undici takes the end of the
/// connection for the end of the body, although the last chunk is missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndsIncomplete;

/// Yields its bytes, and then an error, on which hyper closes the connection.
#[derive(Debug)]
pub(super) struct IncompleteBody {
    bytes: Option<Bytes>,
    /// Whether the body was pending once after its bytes: hyper writes them then.
    has_paused: bool,
}

impl IncompleteBody {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Some(bytes.into()), has_paused: false }
    }
}

impl HttpBody for IncompleteBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        // hyper writes its buffer while the body is pending, and drops the buffer on an error. So
        // the body is pending once before its error.
        if !self.has_paused {
            self.has_paused = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
    }
}
