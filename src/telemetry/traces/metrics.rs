//! What tracing counts. Everything is at zero without a collector.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::telemetry::reasons::{self, Reasons};

/// The metrics of traces.
#[derive(Debug)]
pub struct TraceMetrics {
    pub(super) begun: Counter,
    pub(super) over_limit: Counter,
    pub(super) exported: Counter,
    pub(super) dropped: Reasons,
    pub(super) failures: Counter,
    pub(super) waiting: Gauge,
}

impl Default for TraceMetrics {
    fn default() -> Self {
        Self {
            begun: Counter::default(),
            over_limit: Counter::default(),
            exported: Counter::default(),
            dropped: Reasons::new(reasons::TRACE_SPANS_DROPPED),
            failures: Counter::default(),
            waiting: Gauge::default(),
        }
    }
}

impl TraceMetrics {
    pub(in crate::telemetry) fn register(&self, r: &mut Registry) {
        r.register("traces", "Publishes that are traced", self.begun.clone());
        r.register(
            "traces_over_limit",
            "Sampled publishes that are not traced, for want of room for their spans",
            self.over_limit.clone(),
        );
        r.register("trace_spans_exported", "Spans that the collector took", self.exported.clone());
        r.register(
            "trace_spans_dropped",
            "Spans that the collector does not have",
            self.dropped.0.clone(),
        );
        r.register(
            "trace_exports_failed",
            "Requests to the collector that it did not answer with success",
            self.failures.clone(),
        );
        r.register("trace_spans_waiting", "Spans that wait to be exported", self.waiting.clone());
    }

    /// Counts spans that are dropped.
    pub(super) fn drop_spans(&self, reason: &'static str, spans: u64) {
        self.dropped.counter(reason).inc_by(spans);
    }
}
