//! Going down without cutting everyone off at once.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::sync::oneshot;

use super::Hub;
use crate::actors::{Fault, Front, RootMsg, ShardMsg};

impl Hub {
    /// Serves clients on the shards' threads.
    pub fn serve(&self, front: Arc<dyn Front>) {
        if let Some(root) = &self.shared.refs.lock().root {
            let _ = root.cast(RootMsg::Serve(front));
        }
    }

    /// Ends all connections, each at its own time within `window` and with its own reconnection
    /// time; polls are answered. New subscriptions are refused from now on; publishes are taken
    /// until [`shut_down`](Self::shut_down). Returns when no connection is left, or a little after
    /// the window.
    pub async fn drain(&self, window: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        let shards = self.shared.refs.lock().shards.clone();
        let mut done = Vec::new();
        for shard in shards.into_iter().flatten() {
            let (sender, receiver) = oneshot::channel();
            if shard.cast(ShardMsg::Drain(window, sender)).is_ok() {
                done.push(receiver);
            }
        }
        let all = async {
            for receiver in done {
                let _ = receiver.await;
            }
        };
        if tokio::time::timeout(window + DRAIN_GRACE, all).await.is_err() {
            tracing::warn!("connections are left after the drain window");
        }
    }

    /// Stops the actors. What is in memory is gone.
    pub async fn shut_down(&self) {
        self.shared.draining.store(true, Ordering::Release);
        let root = self.shared.refs.lock().root.take();
        if let Some(root) = root {
            root.stop(None);
        }
        self.shared.stop_log();
    }

    /// Plants a fault in an actor: for tests of supervision.
    pub fn plant_fault(&self, fault: Fault) {
        if let Some(root) = &self.shared.refs.lock().root {
            let _ = root.cast(RootMsg::Fault(fault));
        }
    }
}

/// How long a drain waits after its window for the last connections.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{Publication, PublishError},
        model::{ChannelName, NewEvent},
    };

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
