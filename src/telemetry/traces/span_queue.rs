//! The spans that wait to be exported, bounded in number and a second. What does not fit is dropped
//! and counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;

use super::{metrics::TraceMetrics, span::Span};

/// The queue.
#[derive(Debug)]
pub(super) struct SpanQueue {
    spans: ArrayQueue<Span>,
    per_s_max: AtomicU32,
    /// The second in the upper half, and how many spans there were in it in the lower.
    second: AtomicU64,
    began: Instant,
    /// A batch is there.
    filled: Notify,
    pub(super) metrics: Arc<TraceMetrics>,
}

impl SpanQueue {
    pub(super) fn new(spans_max: usize, per_s_max: u32, metrics: Arc<TraceMetrics>) -> Self {
        Self {
            spans: ArrayQueue::new(spans_max.max(1)),
            per_s_max: AtomicU32::new(per_s_max),
            second: AtomicU64::new(0),
            began: Instant::now(),
            filled: Notify::new(),
            metrics,
        }
    }

    pub(super) fn set_per_s_max(&self, per_s_max: u32) {
        self.per_s_max.store(per_s_max, Ordering::Relaxed);
    }

    /// Whether another trace may begin: half of both bounds is left, so that the spans of those
    /// that have begun fit too.
    pub(super) fn has_room(&self) -> bool {
        let second = self.second.load(Ordering::Relaxed);
        let spent = if second >> 32 == self.now_s() { second as u32 } else { 0 };
        spent < self.per_s_max.load(Ordering::Relaxed).div_ceil(2)
            && self.spans.len() < self.spans.capacity().div_ceil(2)
    }

    /// Queues a span, unless a bound is reached.
    pub(super) fn push(&self, span: Span) {
        if !self.spend() {
            self.metrics.drop_spans("rate", 1);
        } else if self.spans.push(span).is_err() {
            self.metrics.drop_spans("queue_full", 1);
        } else if self.spans.len() >= BATCH_SPANS_MAX {
            self.filled.notify_one();
        }
    }

    /// Takes the next spans, as many as one export has.
    pub(super) fn take_batch(&self) -> Vec<Span> {
        let batch: Vec<Span> =
            std::iter::from_fn(|| self.spans.pop()).take(BATCH_SPANS_MAX).collect();
        self.metrics.waiting.set(self.spans.len() as i64);
        batch
    }

    /// Waits until a whole batch is there. Cancelling it has no effect.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn spend(&self) -> bool {
        let (now_s, max) = (self.now_s(), self.per_s_max.load(Ordering::Relaxed));
        let spend = |second: u64| {
            let spent = if second >> 32 == now_s { second as u32 } else { 0 };
            (spent < max).then_some(now_s << 32 | u64::from(spent + 1))
        };
        self.second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    fn now_s(&self) -> u64 {
        self.began.elapsed().as_secs() & u64::from(u32::MAX)
    }
}

/// Spans of one export: about 200 KiB.
pub(super) const BATCH_SPANS_MAX: usize = 512;
