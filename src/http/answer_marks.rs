//! The headers that every answer has, whatever its handler gives.

use axum::http::HeaderMap;

use super::{
    cors::Sharing,
    request_id::RequestId,
    security_headers::{add_hsts, add_security_headers},
};

/// What these headers depend on: answers with equal marks have equal ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerMarks {
    /// Which other origins may read the answer.
    pub(super) sharing: Sharing,
    /// The `max-age` of `Strict-Transport-Security`, if the answer has that field.
    pub(super) hsts_s: Option<u32>,
    /// The id of the request, if the answer names it.
    pub(super) request_id: Option<RequestId>,
}

impl AnswerMarks {
    /// The marks of an answer that is yet to be made.
    pub(super) const NONE: Self = Self { sharing: Sharing::Closed, hsts_s: None, request_id: None };

    /// Adds the headers.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(request_id) = &self.request_id {
            request_id.add_header(headers);
        }
        self.sharing.add_headers(headers);
        add_security_headers(headers);
        if let Some(max_age_s) = self.hsts_s {
            add_hsts(headers, max_age_s);
        }
    }
}
