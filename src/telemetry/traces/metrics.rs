//! The metrics of traces. All are zero without a collector.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::telemetry::{
    metric_set::metric_set,
    reasons::{self, Reasons},
};

metric_set! {
    /// The metrics of traces.
    pub struct TraceMetrics {
        pub(super) begun as "traces": Counter, "Publishes that are traced";
        pub(super) over_limit as "traces_over_limit": Counter,
            "Sampled publishes that are not traced, for want of room for their spans";
        pub(super) exported as "trace_spans_exported": Counter, "Spans that the collector took";
        pub(super) dropped as "trace_spans_dropped": Reasons =
            Reasons::new(reasons::TRACE_SPANS_DROPPED),
            "Spans that the collector does not have";
        pub(super) failures as "trace_exports_failed": Counter,
            "Requests to the collector that it did not answer with success";
        pub(super) waiting as "trace_spans_waiting": Gauge, "Spans that wait to be exported";
    }
}

impl Default for TraceMetrics {
    fn default() -> Self {
        Self::unregistered()
    }
}

impl TraceMetrics {
    pub(in crate::telemetry) fn register(&self, registry: &mut Registry) {
        self.register_all(registry);
    }

    /// Counts spans that are dropped.
    pub(super) fn drop_spans(&self, reason: &'static str, spans: u64) {
        self.dropped.counter(reason).inc_by(spans);
    }
}
