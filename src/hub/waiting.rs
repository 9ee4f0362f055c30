//! The waits of a subscription before it is admitted, both for a bounded time: for a free
//! connection, and for a replay permit.

use std::time::Duration;

use super::{error::SubscribeError, handle::Hub};
use crate::{actors::ReplayPermit, model::Start};

impl Hub {
    /// Waits a moment if the connection limit is reached: when many clients reconnect at once,
    /// their new connections arrive before the hub has seen the old ones close. Cancelling it has
    /// no effect.
    pub async fn wait_for_capacity(&self) {
        let deadline = tokio::time::Instant::now() + CAPACITY_WAIT_MAX;
        while !self.0.connections.has_room() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(CAPACITY_POLL_EVERY).await;
        }
    }

    /// Waits until this hub has received the events up to `start`, which another hub with the same
    /// log has already sent to the client.
    pub(super) async fn catch_up(&self, start: &Start) -> Result<(), SubscribeError> {
        let at = match start {
            Start::At(at) => Some(*at),
            Start::Now | Start::Earliest | Start::Last(_) | Start::Unknown(_) => None,
        };
        let Some(shared) = self.0.log.shared() else {
            // A later epoch is that of another log: a hub that was started later has sent it.
            if at.is_some_and(|at| at.epoch.to_u64() > self.0.store.epoch().to_u64()) {
                self.0.metrics.foreign_positions.inc();
                self.0.throttled_logs.foreign_position();
            }
            return Ok(());
        };
        match shared.following.catch_up(at).await {
            true => Ok(()),
            false if shared.following.has_halted() => Err(self.refused(SubscribeError::GoingDown)),
            false => Err(self.refused(SubscribeError::NotCaughtUp)),
        }
    }

    /// Acquires a permit for the replay of a stream from `start`, to be put into
    /// [`Subscriber::replay`](crate::actors::Subscriber::replay). A stream that starts at the head
    /// needs none. Cancelling it has no effect.
    ///
    /// # Errors
    /// No permit became free in time, or this hub has not received the events up to the position in
    /// time.
    pub async fn replay_permit(
        &self,
        start: &Start,
    ) -> Result<Option<ReplayPermit>, SubscribeError> {
        self.catch_up(start).await?;
        let store = &self.0.store;
        let is_at_head = match start {
            Start::Now => true,
            Start::At(at) => at.epoch == store.epoch() && at.seq == store.head(),
            Start::Earliest | Start::Last(_) | Start::Unknown(_) => false,
        };
        if is_at_head {
            return Ok(None);
        }
        match self.0.connections.replay_permit().await {
            Some(permit) => Ok(Some(permit)),
            None => {
                let replays_max = self.0.limits.load().connections.replays_max;
                Err(self.refused(SubscribeError::TooManyReplays { replays_max }))
            }
        }
    }
}

/// How long a subscription waits for a free connection, and how often it checks.
const CAPACITY_WAIT_MAX: Duration = Duration::from_millis(500);
const CAPACITY_POLL_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::Limits,
        hub::{Publication, StreamRequest},
        model::{ChannelName, NewEvent},
    };

    #[tokio::test(start_paused = true)]
    async fn a_replay_permit_is_waited_for_for_a_bounded_time() {
        let mut limits = Limits::default();
        limits.connections.replays_max = 2;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let name = ChannelName::parse("a").expect("a name");
        let at = hub.publish(Publication::one(name, NewEvent::message("1"))).await;
        let at_head = Start::At(at.expect("published").last);
        let begun = tokio::time::Instant::now();
        let first = hub.replay_permit(&Start::Earliest).await.expect("below");
        let second = hub.replay_permit(&Start::Unknown("x".into())).await.expect("at the bound");
        assert!(first.is_some() && second.is_some());
        for start in [Start::Now, at_head] {
            assert!(hub.replay_permit(&start).await.expect("no need of one").is_none());
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let third = hub.replay_permit(&Start::Earliest).await;
        assert_eq!(third.err(), Some(SubscribeError::TooManyReplays { replays_max: 2 }));
        assert_eq!(begun.elapsed(), Duration::from_millis(5_000));
        let waiting = tokio::spawn({
            let hub = hub.clone();
            async move { hub.replay_permit(&Start::Earliest).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.expect("it ends"), "one was through with it");
    }

    #[tokio::test(start_paused = true)]
    async fn capacity_is_waited_for_for_a_bounded_time() {
        let mut limits = Limits::default();
        limits.connections.connections_max = 1;
        let hub = Hub::builder().limits(limits).shards(1).start().await.expect("a hub");
        let begun = tokio::time::Instant::now();
        hub.wait_for_capacity().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let stream = StreamRequest::channel("a").expect("a channel");
        let only = hub.admit_stream(stream).expect("room");
        hub.wait_for_capacity().await;
        assert_eq!(begun.elapsed(), CAPACITY_WAIT_MAX);
        let waiting = tokio::spawn({
            let hub = hub.clone();
            async move { hub.wait_for_capacity().await }
        });
        tokio::task::yield_now().await;
        drop(only);
        waiting.await.expect("it ends");
        assert!(begun.elapsed() <= CAPACITY_WAIT_MAX + CAPACITY_POLL_EVERY);
    }
}
