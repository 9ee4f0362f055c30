//! Counts the connections that are behind, by reason, and how far they lag.
//!
//! It examines a bounded number of slots at a time. Serving a connection costs nothing for it.

use std::sync::Arc;

use super::report::state;
use crate::{
    actors::{
        connection_report::{BehindReason, ConnectionState},
        shard::{slot::Slot, slots::Slots},
    },
    telemetry::{BehindCounts, BehindMetrics},
};

/// The census of one shard.
#[derive(Debug)]
pub(super) struct Census {
    metrics: Arc<BehindMetrics>,
    /// The slot at which the census continues; the first if none is under way.
    next: usize,
    /// When the census under way began, in milliseconds.
    began_ms: u64,
    /// When the next slots are examined, in milliseconds.
    next_ms: u64,
    counted: BehindCounts,
    /// The result of the last census, which is in the metrics.
    shown: BehindCounts,
}

impl Census {
    pub(super) fn new(metrics: &Arc<BehindMetrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            next: 0,
            began_ms: 0,
            next_ms: 0,
            counted: BehindCounts::default(),
            shown: BehindCounts::default(),
        }
    }

    /// Examines further slots if it is time, and publishes the result after the last slot.
    pub(super) fn advance(&mut self, slots: &Slots<Slot>, now_ms: u64) {
        if now_ms < self.next_ms {
            return;
        }
        self.next_ms = now_ms + LOOK_MS;
        if self.next == 0 {
            self.began_ms = now_ms;
        }
        let end = slots.capacity();
        let to = (self.next + slots_per_look(end)).min(end);
        for slot in (self.next..to).filter_map(|index| slots.get(index)) {
            if let ConnectionState::Behind(reason) = state(slot) {
                self.counted.connections[reason as usize] += 1;
                self.counted.lag_events += u64::from(slot.connection.lag().0);
            }
        }
        self.next = if to < end { to } else { 0 };
        if self.next == 0 {
            self.next_ms = self.next_ms.max(self.began_ms + INTERVAL_MS);
            let counted = std::mem::take(&mut self.counted);
            self.show(counted);
        }
    }

    fn show(&mut self, counted: BehindCounts) {
        self.metrics.replace(&self.shown, &counted);
        self.shown = counted;
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.show(BehindCounts::default());
    }
}

/// Slots to examine in one look.
fn slots_per_look(capacity: usize) -> usize {
    SLOTS_PER_LOOK.max(capacity.div_ceil(LOOKS_MAX))
}

// Metrics name the states in the order of the enum.
const _: () = assert!(BehindReason::Ending as usize + 1 == BehindMetrics::STATES.len());

/// The shortest time from the beginning of one census to that of the next.
const INTERVAL_MS: u64 = 1_000;
/// The shortest time from one look to the next.
const LOOK_MS: u64 = 64;
/// Most looks of a census, ten seconds, however many slots there have been.
const LOOKS_MAX: usize = 160;
// Tests of the crate run with a bound so small that it is hit all the time.
/// Slots of one look, unless there are too many for that.
const SLOTS_PER_LOOK: usize = if cfg!(test) { 3 } else { 512 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_census_has_at_most_160_looks() {
        for capacity in (0..100_000).step_by(7) {
            let slots = slots_per_look(capacity);
            assert!(slots >= SLOTS_PER_LOOK, "{capacity}");
            assert!(capacity.div_ceil(slots) <= LOOKS_MAX, "{capacity}");
            assert!(slots == SLOTS_PER_LOOK || slots * LOOKS_MAX < capacity + LOOKS_MAX);
        }
    }

    #[test]
    fn metrics_have_the_words_of_reports() {
        let reasons = [
            BehindReason::Blocked,
            BehindReason::Replaying,
            BehindReason::CatchingUp,
            BehindReason::Ending,
        ];
        for reason in reasons {
            assert_eq!(BehindMetrics::STATES[reason as usize], reason.as_str());
        }
    }
}
