//! Counts sends and deliveries without atomics, and adds them to the metrics once a slice.

use crate::telemetry::Metrics;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sends: u64,
    deliveries: u64,
}

impl Tally {
    /// Counts one send with this many deliveries.
    #[inline]
    pub(super) fn count(&mut self, deliveries: usize) {
        self.sends += 1;
        self.deliveries += deliveries as u64;
    }

    /// Adds the counts to the metrics.
    pub(super) fn flush(&mut self, metrics: &Metrics) {
        let Self { sends, deliveries } = std::mem::take(self);
        metrics.sends.inc_by(sends);
        metrics.deliveries.inc_by(deliveries);
    }
}
