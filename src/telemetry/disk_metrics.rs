//! The metrics of the log on disk. All are zero without one.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::metric_set::metric_set;

metric_set! {
    /// The metrics of one log.
    pub struct DiskMetrics {
        // 100 us to 13 s.
        sync_seconds: Histogram = Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            "Time of an fsync of the log";
        batch_events: Histogram = Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            "Events in one write to the log";
        batch_bytes: Histogram = Histogram::new(exponential_buckets(256.0, 4.0, 9)),
            "Bytes of one write to the log";
        segments: Gauge, "Sealed segments of the log";
        segment_bytes: Gauge, "Bytes of the sealed segments of the log";
        is_full as "full": Gauge, "1 while the disk has no room for another segment";
        sync_began as "sync_began_seconds": Gauge<f64, AtomicU64>,
            "When the fsync under way began, since 1970; 0 if none is";
        recovery_seconds: Gauge<f64, AtomicU64>, "Time that reading the log took at the start";
        recovered_events: Counter, "Events read from the log at the start";
        torn_bytes: Gauge<i64, AtomicI64>, "Bytes of an unfinished write that the start cut off";
        // 10 us to 1.3 s.
        read_seconds: Histogram = Histogram::new(exponential_buckets(0.000_01, 2.0, 18)),
            "Time of a read of history that is not in memory";
        read_bytes: Counter, "Frame bytes that reads of history from disk gave";
        reads_waiting: Gauge, "Reads of history from disk that wait";
        reads_refused: Counter,
            "Reads of history from disk for which log.read_queue_max left no room";
        reads_cancelled: Counter,
            "Reads of history from disk whose reader was gone before they began";
        read_errors: Counter,
            "Reads of history from disk that failed: the disk, or what is on it, is damaged";
        search_bytes: Counter,
            "Bytes of the log that searches for the last events of channels have read";
        searches_limited: Counter,
            "Searches for the last events of channels that log.search_bytes_max ended";
        searches_shared: Counter,
            "Searches for the last events of channels that an equal one under way was made for too";
        searches_waiting: Gauge, "Searches for the last events of channels that wait for memory";
    }
}

impl Default for DiskMetrics {
    fn default() -> Self {
        Self::unregistered()
    }
}

impl DiskMetrics {
    /// Counts a batch that is written.
    pub fn observe_batch(&self, events: usize, bytes: usize) {
        self.batch_events.observe(events as f64);
        self.batch_bytes.observe(bytes as f64);
    }

    /// Notes when an fsync begins, in milliseconds since 1970.
    pub fn sync_started(&self, now_ms: u64) {
        self.sync_began.set(now_ms as f64 / 1_000.0);
    }

    /// Counts an fsync.
    pub fn sync_ended(&self, took: Duration) {
        self.sync_began.set(0.0);
        self.sync_seconds.observe(took.as_secs_f64());
    }

    /// Notes how many sealed segments there are, and their bytes.
    pub fn observe_segments(&self, (segments, bytes): (usize, u64), is_full: bool) {
        self.segments.set(segments as i64);
        self.segment_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.is_full.set(is_full.into());
    }

    /// Notes what the start has read from the log.
    pub fn observe_recovery(&self, took: Duration, events: u64, torn_bytes: u64) {
        self.recovery_seconds.set(took.as_secs_f64());
        self.recovered_events.inc_by(events);
        self.torn_bytes.set(i64::try_from(torn_bytes).unwrap_or(i64::MAX));
    }

    /// Counts a read of history, and the frame bytes that it gave.
    pub fn observe_read(&self, took: Duration, bytes: u64) {
        self.read_seconds.observe(took.as_secs_f64());
        self.read_bytes.inc_by(bytes);
    }

    /// Notes how many reads of history wait.
    pub fn reads_wait(&self, reads: usize) {
        self.reads_waiting.set(reads as i64);
    }

    /// Counts a read for which there was no room.
    pub fn read_refused(&self) {
        self.reads_refused.inc();
    }

    /// Counts a read whose reader was gone before it began.
    pub fn read_cancelled(&self) {
        self.reads_cancelled.inc();
    }

    /// Counts a read that failed.
    pub fn read_failed(&self) {
        self.read_errors.inc();
    }

    /// Counts a turn of a search, and the bytes of the log that it has read.
    pub fn observe_search(&self, took: Duration, bytes: u64) {
        self.read_seconds.observe(took.as_secs_f64());
        self.search_bytes.inc_by(bytes);
    }

    /// Counts a search that has read as much as it may.
    pub fn search_limited(&self) {
        self.searches_limited.inc();
    }

    /// Counts a search for which an equal one was under way.
    pub fn search_shared(&self) {
        self.searches_shared.inc();
    }

    /// Counts a search that waits for memory.
    pub fn search_waits(&self) {
        self.searches_waiting.inc();
    }

    /// Counts a search that waits no longer.
    pub fn search_waits_no_more(&self) {
        self.searches_waiting.dec();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_all(registry.sub_registry_with_prefix("disk"));
    }
}
