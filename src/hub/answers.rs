//! Room for large answers: they are held in memory until their clients have taken them.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Hub;
use crate::actors::Shared;

/// The room that one answer takes, given back when dropped. Keep it as long as any of its bytes.
#[derive(Debug)]
pub struct AnswerRoom {
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

impl Hub {
    /// Room for an answer of so many bytes; `None` if there is none beside the others.
    ///
    /// It does not wait: the answer is there already, and would be held while it waits. One that is
    /// larger than all the room takes all of it, since it would never be given otherwise.
    pub fn answer_room(&self, bytes: u64) -> Option<AnswerRoom> {
        let taken = bytes.min(self.shared.limits().connections.answers_bytes_max);
        let permits = u32::try_from(taken).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.answers);
        let Ok(permit) = room.try_acquire_many_owned(permits) else {
            self.shared.metrics.answers_refused.inc();
            return None;
        };
        self.shared.metrics.answer_bytes.inc_by(i64::from(permits));
        Some(AnswerRoom { shared: Arc::clone(&self.shared), permit })
    }
}

impl Drop for AnswerRoom {
    fn drop(&mut self) {
        self.shared.metrics.answer_bytes.dec_by(self.permit.num_permits() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Limits;

    #[tokio::test]
    async fn answers_have_a_bound_together_and_one_above_it_goes_alone() {
        let mut limits = Limits::default();
        limits.connections.answers_bytes_max = 100;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let (one, other) = (hub.answer_room(60), hub.answer_room(40));
        assert!(one.is_some() && other.is_some(), "at the bound");
        assert!(hub.answer_room(1).is_none(), "above it");
        assert_eq!(hub.counters().answer_bytes.get(), 100);
        drop(one);
        assert!(hub.answer_room(61).is_none() && hub.answer_room(101).is_none());
        assert!(hub.answer_room(60).is_some());
        drop(other);
        let all = hub.answer_room(101);
        assert!(all.is_some() && hub.answer_room(1).is_none());
        drop(all);
        assert_eq!(hub.counters().answer_bytes.get(), 0, "all is given back");
        assert_eq!(hub.counters().answers_refused.get(), 4);
    }
}
