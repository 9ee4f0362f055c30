//! A chunked body that ends without its last chunk, by closing the connection, so that the client
//! reconnects.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::Frame;

/// Marks a response with such a body. Its head must not have `Connection: close`, with which undici
/// accepts a missing last chunk as the end of the body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndsByCut;

/// Yields some bytes, and then an error, on which hyper closes the connection.
#[derive(Debug)]
pub(super) struct CutBody {
    bytes: Option<Bytes>,
    /// Whether hyper has had a poll in which to write the bytes.
    has_paused: bool,
}

impl CutBody {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Some(bytes.into()), has_paused: false }
    }
}

impl HttpBody for CutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        // hyper writes its buffer when the body is pending, and drops the buffer on an error: so
        // pending once before the error.
        if !self.has_paused {
            self.has_paused = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
    }
}
