//! Ends a connection on request of an administrator.

use super::{engine::Engine, explain::SLOTS_PER_QUERY};
use crate::{
    actors::messages::{EndProgress, EndQuery},
    core::{CloseReason, ConnectionMsg, Transport},
    model::PollAnswer,
};

impl Engine {
    /// Ends a connection by its id. A stream gets a comment and a reconnection time; a waiting poll
    /// is answered as at its deadline. Examines at most [`SLOTS_PER_QUERY`] slots.
    pub(crate) fn end(&mut self, query: &EndQuery, now_ms: u64) -> EndProgress {
        self.now_ms = now_ms;
        let end = self.slots.capacity() as u32;
        let to = query.from.saturating_add(SLOTS_PER_QUERY).min(end);
        let has_number = |index: &u32| {
            let slot = self.slots.get(*index as usize);
            slot.is_some_and(|slot| slot.subscriber.id() == query.id)
        };
        match (query.from..to).find(has_number) {
            Some(index) => {
                self.end_slot(index);
                EndProgress::Ended
            }
            None if to < end => EndProgress::GoOn(to),
            None => EndProgress::NotHere,
        }
    }

    fn end_slot(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let connection = &mut slot.connection;
        let waits = connection.transport() == Transport::Poll && !connection.is_behind();
        if !waits {
            return self.finish(index, CloseReason::EndedByAdmin);
        }
        connection.handle(ConnectionMsg::EndAfterAnswer, self.now_ms, &self.limits);
        slot.subscriber.close_after_answer();
        let position = self.safe_position(index);
        self.answer(index, PollAnswer::nothing(position));
    }
}
