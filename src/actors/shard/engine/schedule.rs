//! The deadlines and heartbeats of a shard's slots.

use crate::{
    actors::shard::slot::Slot,
    core::{ConnectionLimits, Wheel},
};

/// A timer wheel with the next check of each slot.
#[derive(Debug)]
pub(super) struct Schedule {
    wheel: Wheel<u32>,
    /// Slots whose deadline has passed, still to be checked.
    overdue: Vec<u32>,
}

impl Schedule {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { wheel: Wheel::new(WHEEL_SLOTS, WHEEL_STEP_MS, now_ms), overdue: Vec::new() }
    }

    /// Schedules the next check of a slot, unless an earlier one is scheduled.
    #[inline]
    pub(super) fn enter(
        &mut self,
        index: u32,
        slot: &mut Slot,
        now_ms: u64,
        limits: &ConnectionLimits,
    ) {
        let check_ms = slot.connection.next_check_ms(now_ms, limits);
        if check_ms < slot.check_ms {
            slot.check_ms = check_ms;
            self.wheel.schedule(check_ms, index);
        }
    }

    /// Collects the slots whose deadline has passed, once all collected before are checked.
    pub(super) fn advance(&mut self, now_ms: u64) {
        if self.overdue.is_empty() {
            self.wheel.advance(now_ms, &mut self.overdue);
        }
    }

    /// The next slot whose deadline has passed. It may have been reused or rescheduled meanwhile:
    /// see [`is_due`](Self::is_due).
    pub(super) fn next_overdue(&mut self) -> Option<u32> {
        self.overdue.pop()
    }

    /// Whether a slot's deadline has passed. If so, the slot has no deadline until it is scheduled
    /// again.
    pub(super) fn is_due(slot: &mut Slot, now_ms: u64) -> bool {
        let is_due = slot.check_ms <= now_ms;
        if is_due {
            slot.check_ms = u64::MAX;
        }
        is_due
    }

    /// Whether slots whose deadline has passed are still to be checked.
    pub(super) fn has_overdue(&self) -> bool {
        !self.overdue.is_empty()
    }
}

/// The number of buckets of the wheel, and milliseconds of each.
const WHEEL_SLOTS: usize = 1_024;
const WHEEL_STEP_MS: u64 = 64;
