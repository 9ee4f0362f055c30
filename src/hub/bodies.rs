//! The memory budget of request bodies, which are held until their publishes are answered.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::error::PublishError;
use crate::{core::PublishLimits, telemetry::Metrics};

/// The budget of all bodies.
#[derive(Debug)]
pub(super) struct BodyBudget {
    large: Arc<Budget>,
    small: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    bytes: Arc<Semaphore>,
    /// The configured limit, for error messages.
    bytes_max: u64,
    wait: Duration,
    metrics: Arc<Metrics>,
}

/// The memory reserved for one body, released when dropped. Keep it until the publish is answered.
#[derive(Debug)]
pub struct BodyPermit {
    room: Arc<Budget>,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyBudget {
    pub(super) fn new(limits: &PublishLimits, metrics: &Arc<Metrics>) -> Self {
        let bytes_max = limits.bodies_bytes_max;
        let bytes = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let room = |bytes: usize| {
            Arc::new(Budget {
                bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
                bytes_max,
                wait: Duration::from_millis(limits.wait_ms.into()),
                metrics: Arc::clone(metrics),
            })
        };
        // In a very small budget, one small body may need all of it.
        let small = (bytes / SMALL_BODIES_PART).max(bytes.min(SMALL_BYTES_MAX as usize));
        Self { large: room(bytes), small: room(small) }
    }

    /// An empty permit for a body. `bytes` is its announced length, if there is one.
    pub(super) fn reserve(&self, bytes: Option<u64>) -> BodyPermit {
        let is_small = bytes.is_some_and(|bytes| bytes <= SMALL_BYTES_MAX);
        let room = if is_small { &self.small } else { &self.large };
        BodyPermit { room: Arc::clone(room), permit: None }
    }
}

impl BodyPermit {
    /// Reserves memory for `bytes` that have arrived.
    ///
    /// The first call for a body waits for memory, up to `publish.wait_ms`. Further calls do not
    /// wait: bodies that hold memory and wait for more would block each other until all of them
    /// time out.
    ///
    /// # Errors
    /// The budget is exhausted. The memory reserved so far is released when the permit is dropped.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), PublishError> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room.bytes);
        let taken = match &mut self.permit {
            None => {
                let waited = timeout(self.room.wait, room.acquire_many_owned(permits)).await;
                waited.ok().and_then(Result::ok)
            }
            Some(_) => room.try_acquire_many_owned(permits).ok(),
        };
        let Some(taken) = taken else {
            self.room.metrics.publishes_refused.count("bodies");
            return Err(PublishError::TooManyBodies { bytes_max: self.room.bytes_max });
        };
        self.room.metrics.body_bytes.inc_by(i64::from(permits));
        match &mut self.permit {
            Some(permit) => permit.merge(taken),
            None => self.permit = Some(taken),
        }
        Ok(())
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            self.room.metrics.body_bytes.dec_by(permit.num_permits() as i64);
        }
    }
}

/// Small bodies have a budget of their own, in addition: the budget of large bodies divided by
/// this. Otherwise 64 clients that each send all but the last byte of a megabyte could block all
/// publishes.
const SMALL_BODIES_PART: usize = 4;
/// The largest announced length of a small body. With the defaults their budget holds 2,048 of
/// them, more than one address may have connections.
const SMALL_BYTES_MAX: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::Limits, hub::Hub};

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_wait_for_room_and_further_ones_do_not() {
        let mut limits = Limits::default();
        limits.publish.bodies_bytes_max = 100;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let full = PublishError::TooManyBodies { bytes_max: 100 };
        let (mut one, mut other) = (hub.reserve_body(None), hub.reserve_body(None));
        assert_eq!(one.grow(60).await, Ok(()));
        assert_eq!(other.grow(40).await, Ok(()), "at the bound");
        assert_eq!(hub.counters().body_bytes.get(), 100);
        let begun = tokio::time::Instant::now();
        assert_eq!(other.grow(1).await, Err(full.clone()));
        assert_eq!(begun.elapsed(), Duration::ZERO, "it does not wait while it holds some");
        let mut third = hub.reserve_body(None);
        assert_eq!(third.grow(1).await, Err(full));
        assert_eq!(begun.elapsed(), Duration::from_millis(2_000));
        let waiting = tokio::spawn(async move { third.grow(41).await });
        tokio::task::yield_now().await;
        drop(one);
        drop(other);
        assert_eq!(waiting.await.expect("it ends"), Ok(()));
        assert_eq!(hub.counters().body_bytes.get(), 0, "all is given back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_may_be_published_fits_into_the_smallest_budget() {
        let mut limits = Limits::default();
        limits.publish.bodies_bytes_max = 4_096;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        for bytes in [2_000, 4_096] {
            let mut body = hub.reserve_body(Some(bytes));
            assert_eq!(body.grow(bytes as usize).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_leave_small_ones_their_room() {
        let mut limits = Limits::default();
        limits.publish.bodies_bytes_max = 40_000;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let mut large = hub.reserve_body(Some(40_000));
        assert_eq!(large.grow(40_000).await, Ok(()));
        // At the bound, and one byte above it.
        assert_eq!(hub.reserve_body(Some(8_192)).grow(8_192).await, Ok(()));
        assert!(hub.reserve_body(Some(8_193)).grow(1).await.is_err());
        assert!(hub.reserve_body(None).grow(1).await.is_err(), "it may become large");
        let (mut one, mut other) = (hub.reserve_body(Some(8_000)), hub.reserve_body(Some(8_000)));
        assert_eq!(one.grow(8_000).await, Ok(()));
        assert_eq!(other.grow(2_000).await, Ok(()), "10,000 in all");
        assert!(other.grow(1).await.is_err(), "their room has a bound too");
        drop((large, one, other));
        assert_eq!(hub.counters().body_bytes.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_keeps_all_that_it_has_grown_to() {
        let mut limits = Limits::default();
        limits.publish.bodies_bytes_max = 100;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let mut body = hub.reserve_body(None);
        for bytes in [30, 30, 40] {
            assert_eq!(body.grow(bytes).await, Ok(()));
        }
        assert!(hub.reserve_body(None).grow(1).await.is_err(), "all of it is taken");
        assert!(hub.metrics().contains(r#"publishes_refused_total{reason="bodies"} 1"#));
        drop(body);
        assert_eq!(hub.reserve_body(None).grow(100).await, Ok(()));
    }
}
