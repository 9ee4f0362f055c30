//! Counts the bytes of large answers against a memory budget, until the kernel has accepted all of
//! them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::Problem;
use crate::{
    hub::{AnswerPermit, Hub},
    model::ClientAddress,
};

/// Reserves memory for an answer. If the budget is exhausted, returns a 503 instead of the answer.
pub(crate) fn with_answer_permit(
    hub: &Hub,
    client: Option<ClientAddress>,
    response: Response,
) -> Response {
    // The body of a stream has no length. Limits of its connection apply to it instead.
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    if bytes <= SMALL_BYTES_MAX {
        return response;
    }
    match hub.reserve_answer(bytes, client) {
        Some(permit) => {
            let permit = Arc::new(permit);
            response.map(|body| Body::new(PermittedBody { body, permit }))
        }
        None => {
            let detail =
                "the memory for answers under way, or for those to this address, is used up";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            problem.retry_soon().into_response()
        }
    }
}

/// A body with its permit.
struct PermittedBody {
    body: Body,
    permit: Arc<AnswerPermit>,
}

/// A part of the body. hyper drops the body when it has the last part, but keeps parts until they
/// are written, so each part holds the permit.
struct Piece {
    bytes: Bytes,
    _permit: Arc<AnswerPermit>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl http_body::Body for PermittedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, permit } = self.get_mut();
        let with_permit = |bytes| Bytes::from_owner(Piece { bytes, _permit: Arc::clone(permit) });
        Pin::new(body)
            .poll_frame(context)
            .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(with_permit))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers up to this length need no permit: the buffers of a connection are as large.
pub(super) const SMALL_BYTES_MAX: u64 = 16 * 1024;
