//! The memory budget of large answers: they are held until their clients have taken them.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Hub, quotas::OverLimit};
use crate::{
    actors::{HubState, Usage},
    model::{ClientAddress, Network},
};

/// The part of the budget that one answer takes, given back when dropped. Keep it as long as any of
/// its bytes.
#[derive(Debug)]
pub struct AnswerPermit {
    shared: Arc<HubState>,
    permit: OwnedSemaphorePermit,
    _of_address: Option<Usage<Network>>,
}

impl Hub {
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
        let of_address = match self.quotas.count_answer(bytes, client) {
            Ok(usage) => usage,
            Err(OverLimit) => {
                self.shared.metrics.answers_refused.inc();
                return None;
            }
        };
        let taken = bytes.min(self.shared.limits().connections.answers_bytes_max);
        let permits = u32::try_from(taken).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.answers);
        let Ok(permit) = room.try_acquire_many_owned(permits) else {
            self.shared.metrics.answers_refused.inc();
            return None;
        };
        self.shared.metrics.answer_bytes.inc_by(i64::from(permits));
        Some(AnswerPermit { shared: Arc::clone(&self.shared), permit, _of_address: of_address })
    }
}

impl Drop for AnswerPermit {
    fn drop(&mut self) {
        self.shared.metrics.answer_bytes.dec_by(self.permit.num_permits() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Limits;

    #[tokio::test]
    async fn answers_to_one_address_leave_room_for_others() {
        let mut limits = Limits::default();
        limits.connections.answers_bytes_max = 100;
        limits.per_address.answers_bytes_max = 30;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let at = |ip: &str| {
            let address = std::net::SocketAddr::new(ip.parse().expect("an address"), 1);
            Some(ClientAddress::direct(address))
        };
        let (one, same) = (at("192.0.2.1"), at("192.0.2.1"));
        let (first, second) = (hub.reserve_answer(20, one), hub.reserve_answer(10, same));
        assert!(first.is_some() && second.is_some(), "at the bound");
        assert!(hub.reserve_answer(1, one).is_none(), "above it");
        assert_eq!(hub.counters().answers_refused.get(), 1);
        assert!(hub.reserve_answer(30, at("192.0.2.2")).is_some(), "another's is another's");
        assert!(hub.reserve_answer(70, at("127.0.0.1")).is_some(), "this machine does not count");
        drop((first, second));
        let large = hub.reserve_answer(50, one);
        assert!(large.is_some(), "one that is larger goes while there is no other");
        assert!(hub.reserve_answer(1, one).is_none());
        drop(large);
        assert!(hub.reserve_answer(30, one).is_some());
        assert_eq!(hub.counters().answer_bytes.get(), 0, "all is given back");
    }

    #[tokio::test]
    async fn answers_have_a_bound_together_and_one_above_it_goes_alone() {
        let mut limits = Limits::default();
        limits.connections.answers_bytes_max = 100;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let (one, other) = (hub.reserve_answer(60, None), hub.reserve_answer(40, None));
        assert!(one.is_some() && other.is_some(), "at the bound");
        assert!(hub.reserve_answer(1, None).is_none(), "above it");
        assert_eq!(hub.counters().answer_bytes.get(), 100);
        drop(one);
        assert!(hub.reserve_answer(61, None).is_none() && hub.reserve_answer(101, None).is_none());
        assert!(hub.reserve_answer(60, None).is_some());
        drop(other);
        let all = hub.reserve_answer(101, None);
        assert!(all.is_some() && hub.reserve_answer(1, None).is_none());
        drop(all);
        assert_eq!(hub.counters().answer_bytes.get(), 0, "all is given back");
        assert_eq!(hub.counters().answers_refused.get(), 4);
    }
}
