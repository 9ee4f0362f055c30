//! The directory of channels.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};
use parking_lot::{Mutex, MutexGuard, RwLock};
use thiserror::Error;

use super::{
    channel::{ChannelEntry, ChannelId},
    evicted_channels::EvictedChannels,
    losses::{Losses, LostThrough},
    walk::Walk,
};
use crate::{
    core::{ChannelPolicies, ChannelPolicy},
    model::{ChannelName, ChannelPattern, Seq},
};

/// The channels by name. A channel is created by its first publish or subscription and evicted when
/// it is empty, open and not held.
#[derive(Debug)]
pub struct Directory {
    entries: DashMap<ChannelName, Arc<ChannelEntry>>,
    /// The same entries in the order of their names, for walks and pages. Its lock is taken under
    /// those of `entries`, never the other way round.
    names: RwLock<BTreeMap<ChannelName, Arc<ChannelEntry>>>,
    len: AtomicUsize,
    created: AtomicU64,
    evicted: Mutex<EvictedChannels>,
    channels_max: usize,
    publish_permits: usize,
    /// Its lock is taken before those of `entries`.
    policies: RwLock<ChannelPolicies>,
}

/// The directory has as many channels as the hub may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the hub has as many channels as it may ({channels_max})")]
pub struct DirectoryFull {
    /// The limit.
    pub channels_max: usize,
}

impl Directory {
    /// An empty directory; each channel may hold `publish_permits` permits.
    pub fn new(
        channels_max: usize,
        evicted_max: usize,
        publish_permits: usize,
        policies: ChannelPolicies,
    ) -> Self {
        Self {
            entries: DashMap::new(),
            names: RwLock::default(),
            len: AtomicUsize::new(0),
            created: AtomicU64::new(0),
            evicted: Mutex::new(EvictedChannels::new(evicted_max)),
            channels_max,
            publish_permits,
            policies: RwLock::new(policies),
        }
    }

    /// The channel, if there is one.
    pub fn find(&self, name: &ChannelName) -> Option<Arc<ChannelEntry>> {
        self.entries.get(name).map(|entry| Arc::clone(&entry))
    }

    /// The channel, created now if need be, even past the limit: another hub has accepted an event
    /// of this channel into the shared log.
    pub fn find_or_create_always(&self, name: &ChannelName, now_ms: u64) -> Arc<ChannelEntry> {
        self.create_within(name, now_ms, usize::MAX).expect("no limit is reached")
    }

    /// The channel, created now if need be.
    pub fn find_or_create(
        &self,
        name: &ChannelName,
        now_ms: u64,
    ) -> Result<Arc<ChannelEntry>, DirectoryFull> {
        self.create_within(name, now_ms, self.channels_max)
    }

    fn create_within(
        &self,
        name: &ChannelName,
        now_ms: u64,
        channels_max: usize,
    ) -> Result<Arc<ChannelEntry>, DirectoryFull> {
        if let Some(entry) = self.find(name) {
            return Ok(entry);
        }
        // Held until the channel is inserted, so that `set_policies` either sees the channel or is
        // seen by it.
        let policies = self.policies.read();
        let policy = policies.policy_of(name);
        match self.entries.entry(name.clone()) {
            Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            Entry::Vacant(vacant) => {
                if self.len.fetch_add(1, Ordering::AcqRel) >= channels_max {
                    self.len.fetch_sub(1, Ordering::AcqRel);
                    return Err(DirectoryFull { channels_max });
                }
                let earlier = self.evicted.lock().recall(name);
                let id = ChannelId(self.created.fetch_add(1, Ordering::AcqRel) + 1);
                let entry = Arc::new(ChannelEntry::new(
                    id,
                    name.clone(),
                    earlier,
                    Arc::clone(policy),
                    self.publish_permits,
                    now_ms,
                ));
                vacant.insert(Arc::clone(&entry));
                self.names.write().insert(name.clone(), Arc::clone(&entry));
                Ok(entry)
            }
        }
    }

    /// The policy of a channel of this name, whether it exists or not.
    pub fn policy_of(&self, name: &ChannelName) -> Arc<ChannelPolicy> {
        Arc::clone(self.policies.read().policy_of(name))
    }

    /// Sets the policies of channels. Existing channels keep theirs until
    /// [`renew_policies`](Self::renew_policies) visits them.
    pub fn set_policies(&self, policies: ChannelPolicies) {
        *self.policies.write() = policies;
    }

    /// Applies the current policies to the next page of channels, after the name `after`. Returns
    /// the last name visited if there may be more.
    pub fn renew_policies(&self, after: Option<&str>) -> Option<ChannelName> {
        let (entries, last) = self.page("", after, usize::MAX, |_| true);
        for entry in entries {
            entry.set_policy(&self.policy_of(entry.name()));
        }
        last
    }

    /// Evicts a channel that only the directory and the caller hold. Its holders took it from the
    /// directory under the same locks, so it cannot be taken in between.
    pub fn evict(&self, entry: Arc<ChannelEntry>) -> bool {
        let removed = self.entries.remove_if(entry.name(), |name, kept| {
            let mut names = self.names.write();
            let held_by_both_maps_and_the_caller = Arc::strong_count(kept) == 3;
            Arc::ptr_eq(kept, &entry)
                && held_by_both_maps_and_the_caller
                && kept.is_removable()
                && {
                    self.evicted.lock().record(name.clone(), kept.events().losses());
                    names.remove(name);
                    true
                }
        });
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        removed.is_some()
    }

    /// Restores the losses that a log on disk knows of, since it has removed the events: `lost` has
    /// the last lost event of some channels, in the order of these events; `unnamed` is the last of
    /// all other channels.
    pub fn restore_losses<'a>(
        &self,
        lost: impl IntoIterator<Item = (&'a ChannelName, Seq)>,
        unnamed: Seq,
    ) {
        let mut evicted = self.evicted.lock();
        evicted.raise_unnamed(unnamed);
        for (name, through) in lost {
            evicted.record(name.clone(), Losses { through, eviction: 0 });
        }
    }

    /// Notes what channels may have lost. Drops what is known of evicted ones.
    pub(super) fn reset_losses(&self, lost: LostThrough) {
        self.evicted.lock().reset(lost);
    }

    /// Notes that any channel that matches one of these patterns may have lost events up to the seq
    /// beside it, when the hub ended before.
    pub fn lose_transient(&self, lost: Vec<(ChannelPattern, Seq)>) {
        self.evicted.lock().lose_transient(lost);
    }

    /// The channels of the next names of a walk, at most `names_max`.
    pub(super) fn next_names(&self, walk: &mut Walk, names_max: usize) -> Vec<Arc<ChannelEntry>> {
        let mut entries = Vec::with_capacity(names_max);
        walk.visit(&self.names.read(), names_max, |_, entry| entries.push(Arc::clone(entry)));
        entries
    }

    /// The losses of evicted channels.
    pub(super) fn evicted_channels(&self) -> MutexGuard<'_, EvictedChannels> {
        self.evicted.lock()
    }

    /// Up to `limit` wanted channels whose names begin with `prefix` and come after the name
    /// `after`, in the order of their names. One call looks at a bounded number of names, and only
    /// at those with the prefix. If there may be more channels, it also gives the last name that it
    /// has looked at.
    pub fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&ChannelName) -> bool,
    ) -> (Vec<Arc<ChannelEntry>>, Option<ChannelName>) {
        self.page_of(prefix, after, limit, |entry| wanted(entry.name()))
    }

    /// As [`page`](Self::page), for names of any prefix; `wanted` sees the whole entry.
    pub fn page_where(
        &self,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&ChannelEntry) -> bool,
    ) -> (Vec<Arc<ChannelEntry>>, Option<ChannelName>) {
        self.page_of("", after, limit, wanted)
    }

    fn page_of(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&ChannelEntry) -> bool,
    ) -> (Vec<Arc<ChannelEntry>>, Option<ChannelName>) {
        let after = after.filter(|after| *after >= prefix);
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let names = self.names.read();
        let with_prefix = names
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.as_str().starts_with(prefix));
        let mut found = Vec::new();
        for (seen, (name, entry)) in with_prefix.enumerate() {
            if wanted(entry) {
                found.push(Arc::clone(entry));
            }
            if found.len() >= limit || seen + 1 == PAGE_NAMES_MAX {
                return (found, Some(name.clone()));
            }
        }
        (found, None)
    }

    /// The channels after the name `after` to which `due` applies, in the order of their names. One
    /// call looks at a bounded number of names. If there may be more, it also gives the last name
    /// that it has looked at.
    pub fn next_due(
        &self,
        after: Option<&ChannelName>,
        due: impl Fn(&ChannelEntry) -> bool,
    ) -> (Vec<Arc<ChannelEntry>>, Option<ChannelName>) {
        let after = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_str()));
        let names = self.names.read();
        let mut look = names.range::<str, _>((after, Bound::Unbounded)).take(PAGE_NAMES_MAX);
        let (mut seen, mut last, mut found) = (0, None, Vec::new());
        for (name, entry) in &mut look {
            (seen, last) = (seen + 1, Some(name));
            if due(entry) {
                found.push(Arc::clone(entry));
            }
        }
        (found, last.filter(|_| seen == PAGE_NAMES_MAX).cloned())
    }

    /// How many channels there are.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` with every channel.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&Arc<ChannelEntry>)) {
        self.entries.iter().for_each(|entry| visit(&entry));
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

/// Names that one call for a page looks at: each may be compared with a hundred patterns of a
/// token, and the creation of a channel waits for the lock meanwhile.
const PAGE_NAMES_MAX: usize = if cfg!(test) { 3 } else { 64 };
