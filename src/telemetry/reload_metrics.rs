//! What is counted of reloads of the settings.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The metrics of one hub. Both results are there from the start.
#[derive(Debug)]
pub struct ReloadMetrics {
    reloads: Family<Outcome, Counter>,
    last: Family<Outcome, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

impl Default for ReloadMetrics {
    fn default() -> Self {
        let (reloads, last) = (Family::default(), Family::default());
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
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.reloads.get_or_create(&outcome).inc();
        self.last.get_or_create(&outcome).set(now_s as i64);
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
