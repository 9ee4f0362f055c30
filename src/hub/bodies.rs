//! Room for request bodies: publishes are held in memory before the log has room for them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{Hub, PublishError};
use crate::{actors::Shared, telemetry::Metrics};

/// The room that one body takes, given back when dropped. Keep it until the publish is answered.
#[derive(Debug)]
pub struct BodyRoom {
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Hub {
    /// Room for a body of which nothing has been read yet.
    pub fn body_room(&self) -> BodyRoom {
        BodyRoom { shared: Arc::clone(&self.shared), permit: None }
    }
}

impl BodyRoom {
    /// Takes room for so many more bytes, which have come.
    ///
    /// The first bytes of a body wait for room, up to the publish wait time. Further ones do not:
    /// bodies that wait for each other's room would all be given up together.
    ///
    /// # Errors
    /// There is no room. What was taken stays taken until this is dropped.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), PublishError> {
        let limits = &self.shared.limits().publish;
        let full = PublishError::TooManyBodies { bytes_max: limits.bodies_bytes_max };
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.bodies);
        let taken = match &mut self.permit {
            None => {
                let wait = Duration::from_millis(limits.wait_ms.into());
                let waited = timeout(wait, room.acquire_many_owned(permits)).await;
                waited.ok().and_then(Result::ok)
            }
            Some(_) => room.try_acquire_many_owned(permits).ok(),
        };
        let Some(taken) = taken else {
            Metrics::count(&self.shared.metrics.publishes_refused, "bodies");
            return Err(full);
        };
        self.shared.metrics.body_bytes.inc_by(i64::from(permits));
        match &mut self.permit {
            Some(permit) => permit.merge(taken),
            None => self.permit = Some(taken),
        }
        Ok(())
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            self.shared.metrics.body_bytes.dec_by(permit.num_permits() as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Limits;

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_wait_for_room_and_further_ones_do_not() {
        let mut limits = Limits::default();
        limits.publish.bodies_bytes_max = 100;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let full = PublishError::TooManyBodies { bytes_max: 100 };
        let (mut one, mut other) = (hub.body_room(), hub.body_room());
        assert_eq!(one.grow(60).await, Ok(()));
        assert_eq!(other.grow(40).await, Ok(()), "at the bound");
        assert_eq!(hub.counters().body_bytes.get(), 100);
        let begun = tokio::time::Instant::now();
        assert_eq!(other.grow(1).await, Err(full.clone()));
        assert_eq!(begun.elapsed(), Duration::ZERO, "it does not wait while it holds some");
        let mut third = hub.body_room();
        assert_eq!(third.grow(1).await, Err(full));
        assert_eq!(begun.elapsed(), Duration::from_millis(2_000));
        let waiting = tokio::spawn(async move { third.grow(41).await });
        tokio::task::yield_now().await;
        drop(one);
        drop(other);
        assert_eq!(waiting.await.expect("it ends"), Ok(()));
        assert_eq!(hub.counters().body_bytes.get(), 0, "all is given back");
    }
}
