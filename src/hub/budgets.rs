//! Reserves memory for request bodies and large answers, for front doors.

use super::{answers::AnswerPermit, bodies::BodyPermit, handle::Hub};
use crate::model::ClientAddress;

impl Hub {
    /// An empty permit for a body, to be grown as its bytes arrive. `bytes` is its announced
    /// length, if there is one; small bodies have a budget of their own.
    pub fn reserve_body(&self, bytes: Option<u64>) -> BodyPermit {
        self.0.bodies.reserve(bytes)
    }

    /// Reserves memory for an answer of `bytes`; `None` if the budget of all answers, or that of
    /// the client's address, has less left.
    ///
    /// It does not wait: the answer is in memory already, and would stay there while it waits. An
    /// answer larger than the whole budget reserves all of it, since it could never be sent
    /// otherwise.
    pub fn reserve_answer(
        &self,
        bytes: u64,
        client: Option<ClientAddress>,
    ) -> Option<AnswerPermit> {
        self.0.answers.reserve(bytes, client)
    }
}
