//! Caches the latest poll answer of a round, for other polls with the same answer.

use std::{ptr, sync::Arc};

use bytes::Bytes;

use super::unsent::UnsentBudget;
use crate::{actors::subscriber::PollTicket, model::PollReply};

/// One answer as bytes.
#[derive(Debug, Default)]
pub(super) struct AnswerCache {
    last: Option<LastAnswer>,
}

#[derive(Debug)]
struct LastAnswer {
    reply: Arc<PollReply>,
    header_lines: Bytes,
    keep_alive: bool,
    render: fn(&PollReply, &PollTicket) -> Bytes,
    response: Bytes,
}

impl AnswerCache {
    /// The bytes of an answer. Polls of the same subscription mostly came by the same route, so the
    /// response heads are equal too.
    #[inline]
    pub(super) fn render(
        &mut self,
        reply: &Arc<PollReply>,
        ticket: &PollTicket,
        unsent: &mut UnsentBudget,
    ) -> Bytes {
        if let Some(last) = &self.last
            && last.fits(reply, ticket)
        {
            return last.response.clone();
        }
        let PollTicket { ref header_lines, keep_alive, render, ref record } = *ticket;
        let response = unsent.count(render(reply, ticket));
        // An answer with a line in the access log is noted there as it is made.
        let is_shared = response.len() <= SHARED_BYTES_MAX && record.is_none();
        self.last = is_shared.then(|| LastAnswer {
            reply: Arc::clone(reply),
            header_lines: header_lines.clone(),
            keep_alive,
            render,
            response: response.clone(),
        });
        response
    }

    /// Clears the cache at the end of a round.
    pub(super) fn clear(&mut self) {
        self.last = None;
    }
}

impl LastAnswer {
    fn fits(&self, reply: &Arc<PollReply>, ticket: &PollTicket) -> bool {
        Arc::ptr_eq(&self.reply, reply)
            && self.keep_alive == ticket.keep_alive
            && self.header_lines == ticket.header_lines
            && ptr::fn_addr_eq(self.render, ticket.render)
    }
}

/// The largest answer that clients share. A larger one is copied for each, so that closing one
/// client frees its bytes when the ceiling on unsent bytes is exceeded.
const SHARED_BYTES_MAX: usize = 8 * 1024;
