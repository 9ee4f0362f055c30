//! A planted fault: the next step of one slot's connection panics. For tests of isolation.

use crate::actors::shard::registry::VACANT;

/// The slot, if one is to panic.
#[derive(Debug)]
pub(super) struct PlantedFault(u32);

impl PlantedFault {
    /// No fault.
    pub(super) const NONE: Self = Self(VACANT);

    /// Plants it.
    pub(super) fn plant(&mut self, slot: u32) {
        self.0 = slot;
    }

    /// Removes it.
    pub(super) fn withdraw(&mut self) {
        self.0 = VACANT;
    }

    /// Panics, once, if it is planted in this slot.
    #[inline]
    pub(super) fn strike(&mut self, slot: u32) {
        if self.0 == slot {
            self.withdraw();
            panic!("planted fault in a connection's step");
        }
    }
}
