//! Writes the line of an answer into the access log, when the answer has ended.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::telemetry::AccessRecord;

/// Logs an answer: at once if its length is known, otherwise when its body ends.
pub(crate) fn log_answer(record: Box<AccessRecord>, response: Response) -> Response {
    let status = response.status().as_u16();
    if let Some(bytes) = response.body().size_hint().exact() {
        record.answered(status, Some(bytes));
        return response;
    }
    response.map(|body| Body::new(LoggedBody { body, record, status, bytes: 0, is_over: false }))
}

/// A body whose bytes are counted, and which is logged when it is dropped.
struct LoggedBody {
    body: Body,
    record: Box<AccessRecord>,
    status: u16,
    bytes: u64,
    is_over: bool,
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(_) => this.is_over = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        self.record.answered(self.status, Some(self.bytes));
        if !self.is_over && !self.body.is_end_stream() {
            self.record.cut_short();
        }
    }
}
