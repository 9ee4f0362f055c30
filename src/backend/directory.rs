//! Which channels there are.

use std::{
    collections::BinaryHeap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use thiserror::Error;

use super::{
    channel::{ChannelEntry, ChannelId},
    forgotten::Forgotten,
};
use crate::model::{ChannelName, ChannelPattern, Seq};

/// The channels by name. A channel is born by its first publish or subscription and forgotten
/// when it is empty, open and nobody holds it.
#[derive(Debug)]
pub struct Directory {
    entries: DashMap<ChannelName, Arc<ChannelEntry>>,
    len: AtomicUsize,
    births: AtomicU64,
    forgotten: Mutex<Forgotten>,
    channels_max: usize,
    share: usize,
}

/// There are as many channels as the hub may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the hub has as many channels as it may ({channels_max})")]
pub struct DirectoryFull {
    /// The limit.
    pub channels_max: usize,
}

impl Directory {
    /// An empty directory; each channel may hold `share` publish permits.
    pub fn new(channels_max: usize, forgotten_max: usize, share: usize) -> Self {
        Self {
            entries: DashMap::new(),
            len: AtomicUsize::new(0),
            births: AtomicU64::new(0),
            forgotten: Mutex::new(Forgotten::new(forgotten_max)),
            channels_max,
            share,
        }
    }

    /// The channel, if there is one.
    pub fn find(&self, name: &ChannelName) -> Option<Arc<ChannelEntry>> {
        self.entries.get(name).map(|entry| Arc::clone(&entry))
    }

    /// The channel, born now if need be.
    pub fn find_or_create(
        &self,
        name: &ChannelName,
        now_ms: u64,
    ) -> Result<Arc<ChannelEntry>, DirectoryFull> {
        if let Some(entry) = self.find(name) {
            return Ok(entry);
        }
        match self.entries.entry(name.clone()) {
            Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            Entry::Vacant(vacant) => {
                if self.len.fetch_add(1, Ordering::AcqRel) >= self.channels_max {
                    self.len.fetch_sub(1, Ordering::AcqRel);
                    return Err(DirectoryFull { channels_max: self.channels_max });
                }
                let evicted_through = self.forgotten.lock().recall(name);
                let id = ChannelId(self.births.fetch_add(1, Ordering::AcqRel) + 1);
                let entry = Arc::new(ChannelEntry::new(
                    id,
                    name.clone(),
                    evicted_through,
                    self.share,
                    now_ms,
                ));
                vacant.insert(Arc::clone(&entry));
                Ok(entry)
            }
        }
    }

    /// Forgets a channel that only the directory and the caller hold. Its holders took it from
    /// the directory under the same lock, so nobody can come by it in between.
    pub fn forget(&self, entry: Arc<ChannelEntry>) -> bool {
        let removed = self.entries.remove_if(entry.name(), |_, kept| {
            Arc::ptr_eq(kept, &entry) && Arc::strong_count(kept) == 2 && kept.is_spent() && {
                let gone = kept.with_history(|history| history.evicted_through());
                self.forgotten.lock().record(kept.name().clone(), gone);
                true
            }
        });
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        removed.is_some()
    }

    /// The channels that match one of `patterns`.
    pub fn matching(&self, patterns: &[ChannelPattern]) -> Vec<Arc<ChannelEntry>> {
        if patterns.is_empty() {
            return Vec::new();
        }
        self.entries
            .iter()
            .filter(|entry| patterns.iter().any(|pattern| pattern.matches(entry.key())))
            .map(|entry| Arc::clone(&entry))
            .collect()
    }

    /// The highest seq lost by a forgotten channel that matches, if that is after `after`.
    pub fn forgotten_after(&self, patterns: &[ChannelPattern], after: Seq) -> Option<Seq> {
        self.forgotten.lock().lost_after(patterns, after)
    }

    /// Up to `limit` wanted channels after the name `after`, in the order of their names.
    pub fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&ChannelName) -> bool,
    ) -> Vec<Arc<ChannelEntry>> {
        let mut names: BinaryHeap<ChannelName> = BinaryHeap::with_capacity(limit + 1);
        for entry in &self.entries {
            let name = entry.key();
            if after.is_some_and(|after| name.as_str() <= after) {
                continue;
            }
            if names.len() < limit {
                if wanted(name) {
                    names.push(name.clone());
                }
            } else if names.peek().is_some_and(|last| name < last) && wanted(name) {
                names.pop();
                names.push(name.clone());
            }
        }
        names.into_sorted_vec().iter().filter_map(|name| self.find(name)).collect()
    }

    /// How many channels have been born. A reader that sees the same number twice has seen every
    /// channel in between.
    pub fn births(&self) -> u64 {
        self.births.load(Ordering::Acquire)
    }

    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The channels to which `due` applies, at most `limit` of them.
    pub fn select(
        &self,
        limit: usize,
        due: impl Fn(&ChannelEntry) -> bool,
    ) -> Vec<Arc<ChannelEntry>> {
        let due = self.entries.iter().filter(|entry| due(entry));
        due.take(limit).map(|entry| Arc::clone(&entry)).collect()
    }
}
