//! The deadlines and heartbeats of a shard's slots.

use crate::{
    actors::shard::slot::Slot,
    core::{ConnectionLimits, Wheel},
};

/// When each slot is looked at next.
#[derive(Debug)]
pub(super) struct Schedule {
    wheel: Wheel<u32>,
    /// Slots whose deadline has come, to be looked at.
    overdue: Vec<u32>,
}

impl Schedule {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { wheel: Wheel::new(WHEEL_SLOTS, WHEEL_STEP_MS, now_ms), overdue: Vec::new() }
    }

    /// Enters a slot at the time of its next check, unless it is looked at before.
    #[inline]
    pub(super) fn enter(&mut self, index: u32, slot: &mut Slot, limits: &ConnectionLimits) {
        let check_ms = slot.connection.next_check_ms(limits);
        if check_ms < slot.check_ms {
            slot.check_ms = check_ms;
            self.wheel.schedule(check_ms, index);
        }
    }

    /// Finds the slots whose time has come, once all that were found before are looked at.
    pub(super) fn advance(&mut self, now_ms: u64) {
        if self.overdue.is_empty() {
            self.wheel.advance(now_ms, &mut self.overdue);
        }
    }

    /// The next slot whose time has come. It may be used again or have another time by now: see
    /// [`is_due`](Self::is_due).
    pub(super) fn next_overdue(&mut self) -> Option<u32> {
        self.overdue.pop()
    }

    /// Whether the time of a slot has come; if so it has none until it is entered anew.
    pub(super) fn is_due(slot: &mut Slot, now_ms: u64) -> bool {
        let is_due = slot.check_ms <= now_ms;
        if is_due {
            slot.check_ms = u64::MAX;
        }
        is_due
    }

    /// Whether slots whose time has come are still to be looked at.
    pub(super) fn has_overdue(&self) -> bool {
        !self.overdue.is_empty()
    }
}

/// The wheel: how many slots it has, and milliseconds each.
const WHEEL_SLOTS: usize = 1_024;
const WHEEL_STEP_MS: u64 = 64;
