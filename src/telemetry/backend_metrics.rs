//! What is counted of the log that hubs share. Everything is at zero without one.

use std::time::Duration;

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::reasons::{self, Reasons};

/// The metrics of one hub.
#[derive(Debug)]
pub struct BackendMetrics {
    connected: Gauge,
    queued: Gauge,
    kept_events: Gauge,
    kept_bytes: Gauge,
    append_seconds: Histogram,
    append_events: Histogram,
    disconnects: Counter,
    /// Why the histories were loaded anew.
    changes: Reasons,
    hubs: Gauge,
    reported_channels: Gauge,
    reports: Reasons,
    uncounted: Reasons,
}

impl Default for BackendMetrics {
    fn default() -> Self {
        Self {
            connected: Gauge::default(),
            queued: Gauge::default(),
            kept_events: Gauge::default(),
            kept_bytes: Gauge::default(),
            // 100 us to 13 s.
            append_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            append_events: Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            disconnects: Counter::default(),
            changes: Reasons::new(reasons::BACKEND_CHANGES),
            hubs: Gauge::default(),
            reported_channels: Gauge::default(),
            reports: Reasons::new(reasons::BACKEND_REPORTS),
            uncounted: Reasons::new(reasons::BACKEND_UNCOUNTED),
        }
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

    /// Counts a connection that broke, or did not come about.
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

    pub(super) fn register(&self, r: &mut Registry) {
        let r = r.sub_registry_with_prefix("backend");
        let connected = "1 while the hub follows the log that hubs share";
        r.register("connected", connected, self.connected.clone());
        let queued = "Publishes that wait to be appended to the shared log";
        r.register("queued", queued, self.queued.clone());
        let kept_events = "Events that the shared log kept after this hub's last append";
        r.register("kept_events", kept_events, self.kept_events.clone());
        let kept_bytes =
            "Bytes of events that the shared log kept after this hub's last append, about";
        r.register("kept_bytes", kept_bytes, self.kept_bytes.clone());
        r.register(
            "append_seconds",
            "Time of an append to the shared log",
            self.append_seconds.clone(),
        );
        r.register(
            "append_events",
            "Events of an append to the shared log",
            self.append_events.clone(),
        );
        let disconnects =
            "Connections to the server of the shared log that broke or did not come about";
        r.register("disconnects", disconnects, self.disconnects.clone());
        let changes = "Times that the histories were loaded anew: events were lost or missed";
        r.register("changes", changes, self.changes.0.clone());
        let hubs = "Hubs that have reported their subscribers in time, this one among them";
        r.register("hubs", hubs, self.hubs.clone());
        let channels = "Channels with subscribers that this hub reports to the other hubs";
        r.register("reported_channels", channels, self.reported_channels.clone());
        let reports = "Reports of this hub's subscribers to the other hubs";
        r.register("reports", reports, self.reports.0.clone());
        let uncounted = "Answers about a channel that count this hub's subscribers alone";
        r.register("uncounted", uncounted, self.uncounted.0.clone());
    }
}
