//! The metrics of the log that hubs share. All are zero without one.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::{
    metric_set::metric_set,
    reasons::{self, Reasons},
};

metric_set! {
    /// The metrics of one hub.
    pub struct BackendMetrics {
        connected: Gauge, "1 while the hub follows the log that hubs share";
        queued: Gauge, "Publishes that wait to be appended to the shared log";
        kept_events: Gauge, "Events that the shared log kept after this hub's last append";
        kept_bytes: Gauge,
            "Bytes of events that the shared log kept after this hub's last append, about";
        // 100 us to 13 s.
        append_seconds: Histogram = Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            "Time of an append to the shared log";
        append_events: Histogram = Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            "Events of an append to the shared log";
        disconnects: Counter,
            "Connections to the server of the shared log that broke or did not come about";
        changes: Reasons = Reasons::new(reasons::BACKEND_CHANGES),
            "Times that the histories were loaded anew: events were lost or missed";
        hubs: Gauge, "Hubs that have reported their subscribers in time, this one among them";
        reported_channels: Gauge,
            "Channels with subscribers that this hub reports to the other hubs";
        reports: Reasons = Reasons::new(reasons::BACKEND_REPORTS),
            "Reports of this hub's subscribers to the other hubs";
        uncounted: Reasons = Reasons::new(reasons::BACKEND_UNCOUNTED),
            "Answers about a channel that count this hub's subscribers alone";
    }
}

impl Default for BackendMetrics {
    fn default() -> Self {
        Self::unregistered()
    }
}

impl BackendMetrics {
    /// Notes whether the hub follows the log.
    pub fn observe_connected(&self, is_connected: bool) {
        self.connected.set(is_connected.into());
    }

    /// Notes how many publishes wait to be appended.
    pub fn observe_queued(&self, publishes: usize) {
        self.queued.set(i64::try_from(publishes).unwrap_or(i64::MAX));
    }

    /// Notes how much the log keeps.
    pub fn observe_kept(&self, events: u64, bytes: u64) {
        self.kept_events.set(i64::try_from(events).unwrap_or(i64::MAX));
        self.kept_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts an append.
    pub fn observe_append(&self, events: usize, took: Duration) {
        self.append_events.observe(events as f64);
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// Counts a connection to the server that broke, or could not be made.
    pub fn count_disconnect(&self) {
        self.disconnects.inc();
    }

    /// Counts that the histories had to be loaded anew, and why.
    pub fn count_change(&self, reason: &'static str) {
        self.changes.count(reason);
    }

    /// Notes how many hubs have reported their subscribers; 0 if that is not known.
    pub fn observe_hubs(&self, hubs: u64) {
        self.hubs.set(i64::try_from(hubs).unwrap_or(i64::MAX));
    }

    /// Notes how many channels this hub reports.
    pub fn observe_reported(&self, channels: usize) {
        self.reported_channels.set(i64::try_from(channels).unwrap_or(i64::MAX));
    }

    /// Counts a report of this hub's subscribers, by what became of it.
    pub fn count_report(&self, outcome: &'static str) {
        self.reports.count(outcome);
    }

    /// Counts an answer that has this hub's subscribers alone, and why.
    pub fn count_uncounted(&self, reason: &'static str) {
        self.uncounted.count(reason);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_all(registry.sub_registry_with_prefix("backend"));
    }
}
