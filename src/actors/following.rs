//! Whether a hub follows the log that it shares with others, and how far it has shown it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{model::Position, redis::Fence, telemetry::BackendMetrics};

/// Set by the bridge; publishes and subscriptions wait for it.
pub(crate) struct Following {
    /// The newest entry that this hub has shown; none while the log is reloaded.
    fence: watch::Sender<Option<Fence>>,
    condition: watch::Sender<Condition>,
    /// Incremented when the connection that follows the log breaks.
    outages: watch::Sender<u64>,
    catch_up_wait: Duration,
    metrics: Arc<BackendMetrics>,
}

/// Whether this hub follows the shared log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// It follows the log.
    Following,
    /// The server cannot be reached.
    Away,
    /// The histories are reloaded.
    Loading,
    /// The hub has stopped, since it cannot read the next entry. The process's log has the reason.
    Halted,
}

impl Following {
    /// The state of a hub that has loaded the log up to a fence. A subscription waits up to
    /// `catch_up_wait`.
    pub(super) fn new(fence: Fence, catch_up_wait: Duration, metrics: Arc<BackendMetrics>) -> Self {
        Self {
            fence: watch::Sender::new(Some(fence)),
            condition: watch::Sender::new(Condition::Following),
            outages: watch::Sender::new(0),
            catch_up_wait,
            metrics,
        }
    }

    /// Whether this hub follows the shared log.
    fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    /// Whether the histories are being reloaded.
    pub(crate) fn is_loading(&self) -> bool {
        self.condition() == Condition::Loading
    }

    /// Whether the server cannot be reached.
    pub(crate) fn is_away(&self) -> bool {
        self.condition() == Condition::Away
    }

    /// Waits until a subscription may start at `at`: the histories are loaded, and this hub has
    /// shown the log up to that position, which another hub may have sent. False after
    /// `catch_up_wait`, or if the hub has halted.
    pub(crate) async fn catch_up(&self, at: Option<Position>) -> bool {
        let mut condition = self.condition.subscribe();
        let follows = async {
            let _ = condition.wait_for(|condition| *condition != Condition::Loading).await;
            let Some(at) = at.filter(|_| self.condition() != Condition::Halted) else { return };
            let mut fence = self.fence.subscribe();
            let has = |fence: &Option<Fence>| {
                fence.is_some_and(|fence| match at.epoch == fence.epoch {
                    true => at.seq <= fence.seq,
                    // Another hub may follow a later epoch already.
                    false => at.epoch < fence.epoch,
                })
            };
            let _ = fence.wait_for(has).await;
        };
        let follows = timeout(self.catch_up_wait, follows).await.is_ok();
        // The client of another epoch's position gets a gap, which this hub can send at once.
        let is_foreign = |at: Position| self.fence().is_some_and(|fence| fence.epoch != at.epoch);
        match self.condition() {
            Condition::Halted => false,
            Condition::Loading => follows,
            Condition::Following | Condition::Away => follows || at.is_none_or(is_foreign),
        }
    }

    /// Whether it has halted.
    pub(crate) fn has_halted(&self) -> bool {
        self.condition() == Condition::Halted
    }

    /// Waits until it has halted. Cancelling it has no effect.
    pub(super) async fn halted(&self) {
        // The sender is here.
        let _ = self.condition.subscribe().wait_for(|now| *now == Condition::Halted).await;
    }

    /// The newest entry that this hub has shown; none while the log is reloaded.
    pub(super) fn fence(&self) -> Option<Fence> {
        *self.fence.borrow()
    }

    /// Waits until this hub has loaded the log. Cancelling it has no effect.
    pub(super) async fn wait_for_fence(&self) {
        // Cannot fail: `self` owns the sender.
        let _ = self.fence.subscribe().wait_for(Option::is_some).await;
    }

    /// The number of times that the connection that follows the log has broken.
    pub(super) fn outages(&self) -> watch::Receiver<u64> {
        self.outages.subscribe()
    }

    /// Notes that this hub has shown the log up to the fence.
    pub(super) fn show(&self, fence: Fence) {
        self.fence.send_replace(Some(fence));
    }

    /// Notes that the histories are being reloaded.
    pub(super) fn begin_loading(&self) {
        self.set_condition(Condition::Loading);
        self.fence.send_replace(None);
    }

    /// Notes that the server can be reached again.
    pub(super) fn resume(&self) {
        self.set_condition(Condition::Following);
    }

    /// Notes that this hub shows no further entries.
    pub(super) fn halt(&self) {
        self.set_condition(Condition::Halted);
        self.fence.send_replace(None);
    }

    /// Notes that the connection that follows the log has broken.
    pub(super) fn go_away(&self) {
        if self.fence().is_some() {
            self.set_condition(Condition::Away);
        }
        self.outages.send_modify(|outages| *outages += 1);
    }

    fn set_condition(&self, condition: Condition) {
        self.condition.send_if_modified(|now| {
            let is_new = *now != condition && *now != Condition::Halted;
            if is_new {
                *now = condition;
            }
            is_new
        });
        self.metrics.observe_connected(*self.condition.borrow() == Condition::Following);
    }
}
