//! What clients of a hub may have been sent of a log that it shares, whether or not that is loaded now.

use crate::{model::Seq, redis::Fence};

/// The end of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The newest entry of the latest epoch.
    pub(crate) fence: Fence,
    /// The newest seq of any epoch.
    pub(crate) highest: Seq,
}

impl Seen {
    /// Clients may have been sent this, too.
    pub(crate) fn add(&mut self, fence: Fence) {
        if (fence.epoch, fence.seq) >= (self.fence.epoch, self.fence.seq) {
            self.fence = fence;
        }
        self.highest = self.highest.max(fence.seq);
    }
}
