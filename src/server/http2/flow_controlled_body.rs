//! The body of an answer, given to h2 in small pieces. How fast h2 takes them shows the hub whether
//! the client opens its flow-control windows.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::streams::Stream;

/// A body whose flow control is observed.
///
/// h2 buffers data until the client opens its windows, and does not report that. So the body gives
/// h2 at most [`PIECE_BYTES_MAX`] at a time. If data is larger than [`SMALL_BYTES_MAX`], its last
/// byte is a piece by itself: hyper passes this byte on only when windows are open for all bytes
/// before it.
pub(super) struct FlowControlledBody {
    body: Body,
    /// Bytes of the last data frame that were not given to h2 yet.
    rest: Bytes,
    stream: Rc<Stream>,
}

impl FlowControlledBody {
    pub(super) fn new(body: Body, stream: Rc<Stream>) -> Self {
        if body.is_end_stream() {
            stream.is_answered.set(true);
        }
        Self { body, rest: Bytes::new(), stream }
    }

    fn next_piece(&mut self) -> Bytes {
        let length = self.rest.len();
        let piece = match length {
            0..=SMALL_BYTES_MAX => length,
            _ => (length - 1).min(PIECE_BYTES_MAX),
        };
        self.stream.progress.begin();
        self.stream.progress.on_written(piece);
        if piece == length && self.body.is_end_stream() {
            self.stream.is_answered.set(true);
        }
        self.rest.split_to(piece)
    }
}

impl http_body::Body for FlowControlledBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        // hyper asks for the next piece only when it has passed on the one before.
        this.stream.progress.flush(true);
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => {
                    this.stream.is_answered.set(true);
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
        Poll::Ready(Some(Ok(Frame::data(this.next_piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match (self.body.size_hint().exact(), self.rest.len() as u64) {
            (Some(length), rest) => SizeHint::with_exact(length + rest),
            _ => SizeHint::default(),
        }
    }
}

/// Bytes given to h2 at a time: the payload of one DATA frame.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// Data up to this size is given to h2 as a whole. The hub does not notice if it stays in h2's
/// buffer.
const SMALL_BYTES_MAX: usize = 1024;
