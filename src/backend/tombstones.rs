//! The tombstones of closed channels in the order of their closing events, up to a cap.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::channel::ChannelEntry;
use crate::model::Seq;

/// One entry for each closed channel. Beyond the cap the oldest tombstones end early.
#[derive(Debug)]
pub struct Tombstones {
    by_closing: Mutex<BTreeMap<Seq, Weak<ChannelEntry>>>,
    tombstones_max: usize,
}

impl Tombstones {
    pub(super) fn new(tombstones_max: usize) -> Self {
        Self { by_closing: Mutex::default(), tombstones_max }
    }

    /// Keeps the tombstone of a channel that the event `closing` has closed.
    pub(super) fn keep(&self, closing: Seq, entry: &Arc<ChannelEntry>) {
        self.by_closing.lock().insert(closing, Arc::downgrade(entry));
    }

    /// Removes the tombstone of a channel that is open again.
    pub(super) fn remove(&self, closing: Seq) {
        self.by_closing.lock().remove(&closing);
    }

    /// Takes out the oldest tombstones beyond the cap, and ends them early: their channels are to
    /// be reopened.
    pub fn take_excess(&self) -> Vec<Arc<ChannelEntry>> {
        let mut by_closing = self.by_closing.lock();
        let mut excess = Vec::new();
        while by_closing.len() > self.tombstones_max
            && let Some((closing, oldest)) = by_closing.pop_first()
        {
            // It may have been reopened, and perhaps closed by another event, a moment ago.
            let is_current =
                |entry: &Arc<ChannelEntry>| entry.events().closed_seq() == Some(closing);
            excess.extend(oldest.upgrade().filter(is_current));
        }
        drop(by_closing);
        excess.iter().for_each(|entry| entry.expire());
        excess
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_closing.lock().len()
    }
}
