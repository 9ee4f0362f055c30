//! What the log on disk counts. Everything is at zero without one.

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

/// The metrics of one log.
#[derive(Debug)]
pub struct DiskMetrics {
    sync_seconds: Histogram,
    batch_events: Histogram,
    batch_bytes: Histogram,
    segments: Gauge,
    segment_bytes: Gauge,
    is_full: Gauge,
    sync_began: Gauge<f64, AtomicU64>,
    recovery_seconds: Gauge<f64, AtomicU64>,
    recovered_events: Counter,
    torn_bytes: Gauge<i64, AtomicI64>,
    read_seconds: Histogram,
    read_bytes: Counter,
    reads_waiting: Gauge,
    reads_refused: Counter,
    reads_cancelled: Counter,
    read_errors: Counter,
    search_bytes: Counter,
    searches_limited: Counter,
    searches_shared: Counter,
    searches_waiting: Gauge,
}

impl Default for DiskMetrics {
    fn default() -> Self {
        Self {
            // 100 us to 13 s.
            sync_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            batch_events: Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            batch_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 9)),
            segments: Gauge::default(),
            segment_bytes: Gauge::default(),
            is_full: Gauge::default(),
            sync_began: Gauge::default(),
            recovery_seconds: Gauge::default(),
            recovered_events: Counter::default(),
            torn_bytes: Gauge::default(),
            // 10 us to 1.3 s.
            read_seconds: Histogram::new(exponential_buckets(0.000_01, 2.0, 18)),
            read_bytes: Counter::default(),
            reads_waiting: Gauge::default(),
            reads_refused: Counter::default(),
            reads_cancelled: Counter::default(),
            read_errors: Counter::default(),
            search_bytes: Counter::default(),
            searches_limited: Counter::default(),
            searches_shared: Counter::default(),
            searches_waiting: Gauge::default(),
        }
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

    /// Notes what the start has found.
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

    /// Counts one that waits no longer.
    pub fn search_waits_no_more(&self) {
        self.searches_waiting.dec();
    }

    pub(super) fn register(&self, r: &mut Registry) {
        let r = r.sub_registry_with_prefix("disk");
        r.register("sync_seconds", "Time of an fsync of the log", self.sync_seconds.clone());
        r.register("batch_events", "Events in one write to the log", self.batch_events.clone());
        r.register("batch_bytes", "Bytes of one write to the log", self.batch_bytes.clone());
        r.register("segments", "Sealed segments of the log", self.segments.clone());
        r.register(
            "segment_bytes",
            "Bytes of the sealed segments of the log",
            self.segment_bytes.clone(),
        );
        r.register(
            "full",
            "1 while the disk has no room for another segment",
            self.is_full.clone(),
        );
        r.register(
            "sync_began_seconds",
            "When the fsync under way began, since 1970; 0 if none is",
            self.sync_began.clone(),
        );
        r.register(
            "recovery_seconds",
            "Time that reading the log took at the start",
            self.recovery_seconds.clone(),
        );
        r.register(
            "recovered_events",
            "Events read from the log at the start",
            self.recovered_events.clone(),
        );
        r.register(
            "torn_bytes",
            "Bytes of an unfinished write that the start cut off",
            self.torn_bytes.clone(),
        );
        r.register(
            "read_seconds",
            "Time of a read of history that is not in memory",
            self.read_seconds.clone(),
        );
        r.register(
            "read_bytes",
            "Frame bytes that reads of history from disk gave",
            self.read_bytes.clone(),
        );
        r.register(
            "reads_waiting",
            "Reads of history from disk that wait",
            self.reads_waiting.clone(),
        );
        r.register(
            "reads_refused",
            "Reads of history from disk for which log.read_queue_max left no room",
            self.reads_refused.clone(),
        );
        r.register(
            "reads_cancelled",
            "Reads of history from disk whose reader was gone before they began",
            self.reads_cancelled.clone(),
        );
        r.register(
            "read_errors",
            "Reads of history from disk that failed: the disk, or what is on it, is damaged",
            self.read_errors.clone(),
        );
        r.register(
            "search_bytes",
            "Bytes of the log that searches for the last events of channels have read",
            self.search_bytes.clone(),
        );
        r.register(
            "searches_limited",
            "Searches for the last events of channels that log.search_bytes_max ended",
            self.searches_limited.clone(),
        );
        r.register(
            "searches_shared",
            "Searches for the last events of channels that an equal one under way was made for too",
            self.searches_shared.clone(),
        );
        r.register(
            "searches_waiting",
            "Searches for the last events of channels that wait for memory",
            self.searches_waiting.clone(),
        );
    }
}
