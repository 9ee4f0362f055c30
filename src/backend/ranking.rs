//! Channels by their oldest event in memory, for the ceiling of memory.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::{Arc, Weak},
};

use super::channel::{ChannelEntry, ChannelId};
use crate::model::Seq;

/// One entry for each channel that has had an event in memory. Retention may have removed the event
/// that an entry was added with, so the entry is corrected when it comes to the top.
#[derive(Debug, Default)]
pub(super) struct Ranking(BinaryHeap<Reverse<Ranked>>);

#[derive(Debug)]
struct Ranked {
    oldest: Seq,
    id: ChannelId,
    /// Weak, so that it does not keep a channel from being evicted.
    entry: Weak<ChannelEntry>,
}

impl Ranking {
    /// Adds a channel. `channels` is how many the directory has. Below the ceiling nothing else
    /// removes the entries of evicted channels, so they are removed here once there are too many.
    pub(super) fn add(&mut self, oldest: Seq, entry: &Arc<ChannelEntry>, channels: usize) {
        if self.0.len() > 2 * channels + SLACK {
            self.0.retain(|Reverse(ranked)| ranked.entry.strong_count() > 0);
        }
        self.put_back(oldest, entry);
    }

    /// Puts back a channel that was taken out.
    pub(super) fn put_back(&mut self, oldest: Seq, entry: &Arc<ChannelEntry>) {
        let ranked = Ranked { oldest, id: entry.id(), entry: Arc::downgrade(entry) };
        self.0.push(Reverse(ranked));
    }

    /// Takes out the channel with the oldest event in memory. No other channel has one before the
    /// seq that is returned with it.
    pub(super) fn take_oldest(&mut self) -> Option<(Arc<ChannelEntry>, Seq)> {
        loop {
            let Reverse(ranked) = self.0.pop()?;
            if let Some(entry) = ranked.entry.upgrade() {
                let next = self.0.peek().map_or(Seq(u64::MAX), |Reverse(next)| next.oldest);
                return Some((entry, next));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        (self.oldest, self.id) == (other.oldest, other.id)
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.oldest, self.id).cmp(&(other.oldest, other.id))
    }
}

/// Entries that may be there beyond two for each channel.
pub(super) const SLACK: usize = 1_024;
