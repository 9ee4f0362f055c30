//! The drain: ends connections spread over a window.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::handle::Hub;
use crate::actors::{Fault, Front};

impl Hub {
    /// Serves clients on the shards' threads, with the first front that is given.
    pub fn serve(&self, front: Arc<dyn Front>) {
        self.0.root.serve(front);
    }

    /// Makes [`is_ready`](Self::is_ready) false while publishes and subscriptions are still
    /// accepted: before a drain, load balancers need time to notice.
    pub fn become_unready(&self) {
        self.0.lifecycle.become_unready();
    }

    /// Ends all connections, each at its own time within `window` and with its own reconnection
    /// time; polls are answered. New subscriptions are refused from now on. So are publishes if
    /// events are only in memory: events acknowledged now would be lost. A stream ends once it has
    /// been sent every event, or with the window. Returns when no connection is left, or a little
    /// after the window. If events are only in memory, clients may be between two polls with events
    /// to come, so it answers polls for at least `limits.poll.drain_pause_ms` after such an answer,
    /// within the window.
    pub async fn drain(&self, window: Duration) {
        self.0.lifecycle.become_unready();
        // First: a poll that finds the drain begun has every acknowledged event shown to it.
        if !self.0.log.outlives_process() {
            self.0.log.close();
        }
        self.0.lifecycle.start_draining();
        let drained = async {
            tokio::join!(self.0.shards.drain(window), self.answer_next_polls(window));
        };
        if timeout(window + DRAIN_GRACE, drained).await.is_err() {
            tracing::warn!("connections are left after the drain window");
        }
    }

    /// Waits while clients between two polls may come back for events that are gone with the
    /// process, up to the window.
    async fn answer_next_polls(&self, window: Duration) {
        if self.0.log.outlives_process() {
            return;
        }
        let window_ends_ms = self.0.clock.now_ms() + window.as_millis() as u64;
        loop {
            let pause_ms = self.0.limits.load().poll.drain_pause_ms;
            let until_ms =
                self.0.poll_times.next_polls_until_ms(Duration::from_millis(pause_ms.into()));
            let left_ms = until_ms.min(window_ends_ms).saturating_sub(self.0.clock.now_ms());
            if left_ms == 0 {
                return;
            }
            tracing::debug!(left_ms, "clients may be between two polls");
            sleep(Duration::from_millis(left_ms)).await;
        }
    }

    /// Closes the log: publishes are refused from now on, and all acknowledged events are durable.
    /// Another process may then open a log on disk. If closing fails, the hub has
    /// [`failed`](Self::failed).
    pub async fn close_log(&self) {
        if let Err(why) = self.0.log.finish().await {
            self.0.lifecycle.fail(why);
        }
    }

    /// Waits for a drain to begin.
    pub async fn draining(&self) {
        self.0.lifecycle.draining().await;
    }

    /// Stops the actors. Events in memory are lost; a log on disk is closed first
    /// ([`close_log`](Self::close_log)).
    pub async fn shut_down(&self) {
        self.0.lifecycle.start_draining();
        self.close_log().await;
        self.0.root.stop();
        self.0.log.stop();
    }

    /// Plants a fault in an actor: for tests of supervision.
    pub fn plant_fault(&self, fault: Fault) {
        self.0.root.plant_fault(fault);
    }
}

/// How long a drain waits after its window for the last connections.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;
    use crate::{
        actors::LocalShard,
        hub::{Publication, PublishError},
        model::{ChannelName, NewEvent},
    };

    /// A front without clients. It has a handle to its hub, as each front has.
    struct Idle(#[expect(dead_code, reason = "it is held")] Hub);

    impl Front for Idle {
        fn serve(&self, _: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_front_is_dropped_with_the_end_of_its_hub() {
        let hub = Hub::builder().shards(1).start().await.expect("it starts");
        let front: Arc<dyn Front> = Arc::new(Idle(hub.clone()));
        let first = Arc::downgrade(&front);
        hub.serve(front);
        let other: Arc<dyn Front> = Arc::new(Idle(hub.clone()));
        let second = Arc::downgrade(&other);
        hub.serve(other);
        assert_eq!(second.strong_count(), 0, "only the first is used");
        hub.shut_down().await;
        let dropped = async {
            while first.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), dropped).await.expect("it is dropped");
        let late: Arc<dyn Front> = Arc::new(Idle(hub.clone()));
        let third = Arc::downgrade(&late);
        hub.serve(late);
        assert_eq!(third.strong_count(), 0, "none is used after the end");
    }

    #[tokio::test]
    async fn a_publish_after_the_end_is_refused_and_does_not_wait() {
        let hub = Hub::builder().shards(1).start().await.expect("it starts");
        hub.shut_down().await;
        let name = ChannelName::parse("a").expect("a name");
        let publish = hub.publish(Publication::one(name, NewEvent::message("x")));
        let answer = tokio::time::timeout(Duration::from_secs(10), publish).await;
        assert_eq!(answer.expect("an answer"), Err(PublishError::GoingDown));
    }
}
