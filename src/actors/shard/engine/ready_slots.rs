//! The slots to serve in the next passes: those whose peers marked them as ready, and those with
//! work left over.

use std::sync::Arc;

use crate::actors::{peer::ReadyList, shard::slot::Slot, slot_key::SlotKey};

/// The slots to be served, each once a pass.
#[derive(Debug, Default)]
pub(super) struct ReadySlots {
    /// The list to which peers add slots, from any thread.
    list: Arc<ReadyList>,
    /// Slots that continue in a later pass.
    later: Vec<SlotKey>,
    /// Slots of the current pass.
    due: Vec<SlotKey>,
}

impl ReadySlots {
    /// The list to which peers add slots.
    pub(super) fn list(&self) -> &Arc<ReadyList> {
        &self.list
    }

    /// Queues a slot for a later pass.
    pub(super) fn put_off(&mut self, index: u32, slot: &mut Slot) {
        if !slot.is_queued {
            slot.is_queued = true;
            self.later.push(slot.key(index));
            // This may be called between two passes of the shard's loop.
            self.list.wake();
        }
    }

    /// Begins a pass if the previous one is over.
    pub(super) fn begin_pass(&mut self) {
        if self.due.is_empty() {
            self.list.take(&mut self.due);
            self.due.append(&mut self.later);
        }
    }

    /// The next slot of the pass.
    pub(super) fn next(&mut self) -> Option<SlotKey> {
        self.due.pop()
    }

    /// Whether this or a later pass has slots left. Slots that peers added since the pass began do
    /// not count.
    pub(super) fn has_more(&self) -> bool {
        !self.due.is_empty() || !self.later.is_empty()
    }

    /// For tests: whether no slot is to be served.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        !self.has_more() && self.list.is_empty()
    }
}
