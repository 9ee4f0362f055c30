//! A body that ends with its connection and without its last chunk: its client is to come back.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::Frame;

/// Marks a response with such a body. Its head has no `Connection: close`, with which undici takes the
/// cut for the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndsByCut;

/// Some bytes, and then an error, for which the HTTP/1 server ends the connection.
#[derive(Debug)]
pub(super) struct CutBody {
    bytes: Option<Bytes>,
    /// Whether the server has been given a time to write the bytes in.
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
        // hyper drops what it has not written when it sees an error, and writes when a body waits.
        if !self.has_paused {
            self.has_paused = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
    }
}
