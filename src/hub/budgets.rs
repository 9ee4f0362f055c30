//! Reserving memory for what front doors hold: bodies and answers.

use super::{answers::AnswerPermit, bodies::BodyPermit, handle::Hub};
use crate::model::ClientAddress;

impl Hub {
    /// Begins a body of which nothing has been read yet; its head may say how many bytes it has.
    /// Small bodies have a budget of their own.
    pub fn reserve_body(&self, bytes: Option<u64>) -> BodyPermit {
        self.0.bodies.reserve(bytes)
    }

    /// Takes an answer of so many bytes from the budget; `None` if it is over the limit of all
    /// answers, or over that of the client's address.
    ///
    /// It does not wait: the answer is there already, and would be held while it waits. One that is
    /// larger than the whole budget takes all of it, since it would never be answered otherwise.
    pub fn reserve_answer(
        &self,
        bytes: u64,
        client: Option<ClientAddress>,
    ) -> Option<AnswerPermit> {
        self.0.answers.reserve(bytes, client)
    }
}
