//! Decides which publishes are traced.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use http::HeaderMap;

use super::{
    context::TraceContext, ids::TraceId, metrics::TraceMetrics, publish_trace::PublishTrace,
    span_queue::SpanQueue,
};

/// Begins traces. The sampling can be changed while it is used.
#[derive(Debug)]
pub struct Tracer {
    per_million: AtomicU32,
    follows_parent: AtomicBool,
    pub(super) spans: Arc<SpanQueue>,
}

/// Which publishes are traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// How many of a million that belong to no trace of their client's.
    pub per_million: u32,
    /// Whether the sampled flag of a client's trace decides for its publishes; otherwise they are
    /// as any other.
    pub follows_parent: bool,
    /// Spans a second, of all publishes together.
    pub spans_per_s_max: u32,
}

/// The trace of a request that is sampled.
#[derive(Debug)]
pub struct RequestTrace {
    /// Its id, for logs and problem documents.
    pub id: TraceId,
    /// Where the spans go, if it is a publish.
    pub publish: Option<Arc<PublishTrace>>,
}

impl Tracer {
    /// A tracer with room for so many spans that wait to be exported.
    pub fn new(
        sampling: Sampling,
        queue_spans_max: usize,
        metrics: Arc<TraceMetrics>,
    ) -> Arc<Self> {
        let tracer = Self {
            per_million: AtomicU32::default(),
            follows_parent: AtomicBool::default(),
            spans: Arc::new(SpanQueue::new(queue_spans_max, 0, metrics)),
        };
        tracer.set_sampling(sampling);
        Arc::new(tracer)
    }

    /// Samples by this from now on.
    pub fn set_sampling(&self, sampling: Sampling) {
        self.per_million.store(sampling.per_million, Ordering::Relaxed);
        self.follows_parent.store(sampling.follows_parent, Ordering::Relaxed);
        self.spans.set_per_s_max(sampling.spans_per_s_max);
    }

    /// The trace of a request, if it is sampled. Requests that do not publish have only the id of a
    /// client's trace.
    pub fn begin(&self, headers: &HeaderMap, publishes: bool) -> Option<RequestTrace> {
        let follows_parent = self.follows_parent.load(Ordering::Relaxed);
        let context = TraceContext::of(headers);
        let is_sampled = match &context {
            Some(context) if follows_parent => context.is_sampled,
            _ => publishes && self.is_chosen(),
        };
        if !is_sampled {
            return None;
        }
        let id = context.as_ref().map_or_else(TraceId::random, |context| context.trace);
        if !publishes {
            return Some(RequestTrace { id, publish: None });
        }
        if !self.spans.has_room() {
            self.spans.metrics.over_limit.inc();
            // The client records its own part all the same.
            return context.map(|_| RequestTrace { id, publish: None });
        }
        self.spans.metrics.begun.inc();
        let publish = PublishTrace::new(Arc::clone(&self.spans), id, context);
        Some(RequestTrace { id, publish: Some(publish) })
    }

    fn is_chosen(&self) -> bool {
        fastrand::u32(..MILLION) < self.per_million.load(Ordering::Relaxed)
    }
}

const MILLION: u32 = 1_000_000;
