//! The metrics of reloads of the settings.

use std::{
    sync::atomic::AtomicU64,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The metrics of one hub. Both results are there from the start.
#[derive(Debug)]
pub struct ReloadMetrics {
    reloads: Family<Outcome, Counter>,
    /// With fractions, so that two reloads of one second have an order.
    last: Family<Outcome, Gauge<f64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

impl Default for ReloadMetrics {
    fn default() -> Self {
        let reloads = Family::<Outcome, Counter>::default();
        let last = Family::<Outcome, Gauge<f64, AtomicU64>>::default();
        for outcome in [APPLIED, REFUSED] {
            drop(reloads.get_or_create(&outcome));
            drop(last.get_or_create(&outcome));
        }
        Self { reloads, last }
    }
}

impl ReloadMetrics {
    /// Counts a reload that has ended now.
    pub fn count(&self, is_applied: bool) {
        let outcome = if is_applied { APPLIED } else { REFUSED };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.reloads.get_or_create(&outcome).inc();
        self.last.get_or_create(&outcome).set(now_s);
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register("reloads", "Reloads of the settings", self.reloads.clone());
        r.register(
            "reload_last_seconds",
            "When the last reload of the settings ended, since 1970; 0 before the first",
            self.last.clone(),
        );
    }
}

const APPLIED: Outcome = Outcome { result: "applied" };
const REFUSED: Outcome = Outcome { result: "refused" };
