//! The slots that have something to do: they asked for it, or they go on in a later pass.

use std::sync::Arc;

use crate::actors::{peer::ReadyList, shard::slot::Slot, slot_key::SlotKey};

/// The slots to be served, each in a pass of its own.
#[derive(Debug, Default)]
pub(super) struct ReadySlots {
    /// Where their peers put them, from any thread.
    list: Arc<ReadyList>,
    /// Those that go on in a later pass.
    later: Vec<SlotKey>,
    /// Those of the pass under way.
    due: Vec<SlotKey>,
}

impl ReadySlots {
    /// The list on which slots ask to be served.
    pub(super) fn list(&self) -> &Arc<ReadyList> {
        &self.list
    }

    /// Lets a slot go on in a later pass.
    pub(super) fn put_off(&mut self, index: u32, slot: &mut Slot) {
        if !slot.is_queued {
            slot.is_queued = true;
            self.later.push(slot.key(index));
            // This may be called between two passes of the shard's loop.
            self.list.wake();
        }
    }

    /// Begins a pass if the one before is over.
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

    /// Whether the pass, or a later one, has any; what asks from now on is not seen.
    pub(super) fn has_more(&self) -> bool {
        !self.due.is_empty() || !self.later.is_empty()
    }

    /// Whether no slot asks to be served.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        !self.has_more() && self.list.is_empty()
    }
}
