//! The highest position of the shared log that clients of this hub may have received. A reload of
//! the log keeps it.

use crate::{model::Seq, redis::Fence};

/// That position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The newest entry of the latest epoch.
    pub(crate) fence: Fence,
    /// The newest seq of any epoch.
    pub(crate) highest: Seq,
}

impl Seen {
    /// Notes that clients may have received this entry.
    pub(crate) fn add(&mut self, fence: Fence) {
        if (fence.epoch, fence.seq) >= (self.fence.epoch, self.fence.seq) {
            self.fence = fence;
        }
        self.highest = self.highest.max(fence.seq);
    }
}
