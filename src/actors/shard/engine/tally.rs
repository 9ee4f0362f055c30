//! Sends and deliveries since they were added to the metrics: two atomic additions a slice, none a
//! send.

use crate::telemetry::Metrics;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sends: u64,
    deliveries: u64,
}

impl Tally {
    /// Counts a send with so many events.
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
