//! The counts in the last line of the log: those of the drain, and those of the whole run.

use tokio::time::Instant;

use crate::telemetry::Metrics;

/// Values of counters at one moment.
#[derive(Debug, Clone, Copy)]
struct Counts {
    drained: u64,
    answered: u64,
    cut: u64,
    publishes_refused: u64,
    subscriptions_refused: u64,
    deliveries: u64,
}

impl Counts {
    fn of(metrics: &Metrics) -> Self {
        Self {
            drained: metrics.connections_closed.total(["drained"]),
            answered: metrics.connections_closed.total(["answered"]),
            cut: metrics.connections_closed.total(["shard_ended"]),
            publishes_refused: metrics.publishes_refused.total(["going_down"]),
            subscriptions_refused: metrics.subscriptions_refused.total(["going_down"]),
            deliveries: metrics.deliveries.get(),
        }
    }
}

/// The counts of a run, from its start.
#[derive(Debug)]
pub(super) struct RunCounts {
    began: Instant,
    before_drain: Option<Counts>,
}

impl RunCounts {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), before_drain: None }
    }

    /// Records the counts before the drain.
    pub(super) fn drain_begins(&mut self, metrics: &Metrics) {
        self.before_drain = Some(Counts::of(metrics));
    }

    /// Logs that the hub has stopped.
    pub(super) fn log_stopped(&self, metrics: &Metrics) {
        let now = Counts::of(metrics);
        let before = self.before_drain.unwrap_or(now);
        tracing::info!(
            streams_drained = now.drained - before.drained,
            polls_answered = now.answered - before.answered,
            cut = now.cut - before.cut,
            publishes_refused = now.publishes_refused - before.publishes_refused,
            subscriptions_refused = now.subscriptions_refused - before.subscriptions_refused,
            deliveries = now.deliveries - before.deliveries,
            events_published = metrics.events_published.get(),
            events_delivered = now.deliveries,
            connections_opened = metrics.connections_opened.get(),
            uptime_s = self.began.elapsed().as_secs(),
            "stopped"
        );
    }
}
