//! Traces of publishes: which are sampled, what their spans say, and how they get to a collector
//! (docs/adr/048-traces.md).
//!
//! A sampled publish carries a [`PublishTrace`] along; each stage records its span there when it
//! ends. Spans wait in a bounded queue, from which one task exports them. Nothing waits for that
//! task.

mod collector;
mod context;
mod exporter;
mod ids;
mod metrics;
mod open_span;
mod otlp;
mod publish_trace;
mod span;
mod span_queue;
mod tracer;

pub use collector::{CollectorHeaders, CollectorUrl};
pub use exporter::{ExportOptions, Exporter};
pub use ids::TraceId;
pub use metrics::TraceMetrics;
pub use open_span::OpenSpan;
pub use publish_trace::{PublishTrace, RequestFacts, Stage, Step};
pub use span::Value;
pub use tracer::{RequestTrace, Sampling, Tracer};
