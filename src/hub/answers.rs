//! The memory budget of large answers, which are held until they are written.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    actors::{Usage, UsageTable},
    core::{AddressLimits, Limits},
    model::{ClientAddress, Network},
    telemetry::Metrics,
};

/// The budget of all answers, and of those to each address.
#[derive(Debug)]
pub(super) struct AnswerBudget {
    bytes_max: u64,
    room: Arc<Semaphore>,
    per_address: AddressLimits,
    of_address: Arc<UsageTable<Network>>,
    metrics: Arc<Metrics>,
}

/// The memory reserved for one answer, released when dropped. Keep it as long as any byte of the
/// answer is in memory.
#[derive(Debug)]
pub struct AnswerPermit {
    permit: OwnedSemaphorePermit,
    _of_address: Option<Usage<Network>>,
    metrics: Arc<Metrics>,
}

impl AnswerBudget {
    pub(super) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let bytes_max = limits.connections.answers_bytes_max;
        let room = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            bytes_max,
            room: Arc::new(Semaphore::new(room)),
            per_address: limits.per_address.clone(),
            of_address: Arc::default(),
            metrics,
        }
    }

    /// Reserves `bytes` of the budget for an answer; `None` if less is free.
    pub(super) fn reserve(
        &self,
        bytes: u64,
        client: Option<ClientAddress>,
    ) -> Option<AnswerPermit> {
        let permit = self.take(bytes, client);
        match &permit {
            Some(taken) => {
                self.metrics.answer_bytes.inc_by(taken.permit.num_permits() as i64);
            }
            None => {
                self.metrics.answers_refused.inc();
            }
        }
        permit
    }

    fn take(&self, bytes: u64, client: Option<ClientAddress>) -> Option<AnswerPermit> {
        let counted = client.filter(|client| {
            self.per_address.count(*client) && self.per_address.answers_bytes_max > 0
        });
        let of_address = match counted {
            Some(client) => Some(self.take_of_address(bytes, client)?),
            None => None,
        };
        let permits = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).try_acquire_many_owned(permits).ok()?;
        let metrics = Arc::clone(&self.metrics);
        Some(AnswerPermit { permit, _of_address: of_address, metrics })
    }

    /// Reserves memory of an address's budget. An answer that is larger than this budget reserves
    /// all of it.
    fn take_of_address(&self, bytes: u64, client: ClientAddress) -> Option<Usage<Network>> {
        let max = u32::try_from(self.per_address.answers_bytes_max).unwrap_or(u32::MAX);
        let more = u32::try_from(bytes).unwrap_or(u32::MAX).min(max);
        self.of_address.take_many(&client.network(), more, max)
    }
}

impl Drop for AnswerPermit {
    fn drop(&mut self) {
        self.metrics.answer_bytes.dec_by(self.permit.num_permits() as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Hub;

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
