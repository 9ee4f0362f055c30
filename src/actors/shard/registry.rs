//! The subscribers of each channel and pattern, by slot.

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::{
    actors::subscriber::Subscriber,
    backend::{ChannelEntry, ChannelId, ShardSet},
    core::{PatternId, PatternIndex},
    model::ChannelName,
};

/// The subscribers of a shard, by channel and by pattern. While a channel has subscribers here, its
/// events are sent to this shard; while the shard has patterns, all events are.
#[derive(Debug)]
pub(super) struct Registry {
    /// The index of the shard.
    shard: usize,
    /// The set of shards with pattern subscribers, shared by all shards.
    pattern_subscribers: Arc<ShardSet>,
    channels: FxHashMap<ChannelId, Subscribers>,
    /// The slots of each pattern.
    patterns: PatternIndex<FxHashSet<u32>>,
    /// Incremented when a pattern is added or removed, which makes cached look-ups stale: a channel
    /// looks its patterns up again at its next event, once for any number of changes.
    version: u64,
    /// Channels that are kept for subscribers by pattern, each once, the oldest first. Those that
    /// only subscribers by name need leave with these.
    by_pattern: VecDeque<ChannelId>,
    /// How many of them are kept.
    by_pattern_max: usize,
}

/// The subscribers of one channel.
#[derive(Debug)]
pub(super) struct Subscribers {
    name: ChannelName,
    /// The channel, if subscribers here name it.
    named: Option<Arc<ChannelEntry>>,
    /// Whether it is in [`Registry::by_pattern`], which keeps it while no subscriber names it.
    is_by_pattern: bool,
    /// The slots of its plain streams. [`VACANT`] where a stream left during a round.
    plain: Vec<u32>,
    vacant: usize,
    /// Slots of other connections that name it.
    mixed: FxHashSet<u32>,
    /// Patterns that match it, as of `version`.
    patterns: SmallVec<[PatternId; 2]>,
    version: u64,
}

/// Marks an index of the list whose stream has left.
pub(super) const VACANT: u32 = u32::MAX;

impl Registry {
    /// The registry of shard `shard`; `pattern_subscribers` is the set of shards with patterns.
    pub(super) fn new(shard: usize, pattern_subscribers: Arc<ShardSet>) -> Self {
        Self {
            shard,
            pattern_subscribers,
            channels: FxHashMap::default(),
            patterns: PatternIndex::default(),
            version: 0,
            by_pattern: VecDeque::new(),
            by_pattern_max: usize::MAX,
        }
    }

    /// Adds a plain stream and gives its index.
    pub(super) fn add_plain(&mut self, slot: u32, entry: &Arc<ChannelEntry>) -> u32 {
        let subscribers = self.named(entry);
        subscribers.plain.push(slot);
        (subscribers.plain.len() - 1) as u32
    }

    /// Adds any other connection.
    pub(super) fn add_mixed(&mut self, slot: u32, subscriber: &Subscriber) {
        for counted in &subscriber.named {
            self.named(counted.entry()).mixed.insert(slot);
        }
        for pattern in &subscriber.patterns {
            let patterns = self.patterns.len();
            self.patterns.entry(pattern, FxHashSet::default).1.insert(slot);
            self.version += u64::from(self.patterns.len() > patterns);
            if patterns == 0 {
                self.pattern_subscribers.insert(self.shard);
            }
        }
    }

    /// Removes a plain stream from its channel's list. During a round of the channel its index
    /// becomes vacant; otherwise the last stream of the list moves to that index, and its slot is
    /// returned.
    pub(super) fn remove_plain(
        &mut self,
        slot: u32,
        plain_index: u32,
        channel: ChannelId,
        in_round: bool,
    ) -> Option<u32> {
        let subscribers = self.channels.get_mut(&channel)?;
        if plain_index == VACANT {
            // The stream was never in the list.
            return None;
        }
        let index = plain_index as usize;
        debug_assert_eq!(subscribers.plain.get(index), Some(&slot));
        if in_round {
            subscribers.plain[index] = VACANT;
            subscribers.vacant += 1;
            return None;
        }
        subscribers.plain.swap_remove(index);
        let moved = subscribers.plain.get(index).copied();
        self.drop_if_empty(channel);
        moved
    }

    /// Removes any other connection.
    pub(super) fn remove_mixed(&mut self, slot: u32, subscriber: &Subscriber) {
        for counted in &subscriber.named {
            let channel = counted.entry().id();
            if let Some(subscribers) = self.channels.get_mut(&channel) {
                subscribers.mixed.remove(&slot);
                self.drop_if_empty(channel);
            }
        }
        for pattern in &subscriber.patterns {
            let Some(id) = self.patterns.find(pattern) else { continue };
            let Some(slots) = self.patterns.get_mut(id) else { continue };
            slots.remove(&slot);
            if slots.is_empty() {
                self.patterns.remove(id);
                self.version += 1;
                if self.patterns.is_empty() {
                    self.pattern_subscribers.remove(self.shard);
                }
            }
        }
    }

    /// The subscribers of the channel on this shard, those by pattern included; `None` without
    /// subscribers.
    pub(super) fn look_up(&mut self, entry: &ChannelEntry) -> Option<&Subscribers> {
        if !self.channels.contains_key(&entry.id()) {
            if self.patterns.is_empty() {
                return None;
            }
            // Up to two leave for one that comes, so that excess channels leave too; before it is
            // entered, since it could leave otherwise: no subscriber need name it.
            self.prune_some(2, 1);
            self.subscribers(entry).is_by_pattern = true;
            self.by_pattern.push_back(entry.id());
        }
        let subscribers = self.channels.get_mut(&entry.id())?;
        if subscribers.version != self.version {
            subscribers.version = self.version;
            subscribers.patterns.clear();
            let matching = &mut subscribers.patterns;
            self.patterns.each_match(&subscribers.name, |id, _| matching.push(id));
        }
        Some(subscribers)
    }

    /// The plain streams of a channel.
    pub(super) fn plain(&self, channel: ChannelId) -> &[u32] {
        self.channels.get(&channel).map_or(&[], |subscribers| &subscribers.plain)
    }

    /// Whether any connection of the mixed lane receives a channel found by
    /// [`look_up`](Self::look_up).
    pub(super) fn has_mixed(&self, channel: ChannelId) -> bool {
        self.channels.get(&channel).is_some_and(Subscribers::has_mixed)
    }

    /// How often [`each_mixed`](Self::each_mixed) calls its function.
    pub(super) fn mixed_len(&self, channel: ChannelId) -> usize {
        let Some(subscribers) = self.channels.get(&channel) else { return 0 };
        let of_patterns = subscribers.patterns.iter().filter_map(|&id| self.patterns.get(id));
        subscribers.mixed.len() + of_patterns.map(FxHashSet::len).sum::<usize>()
    }

    /// Calls `each` with every mixed slot of a channel found by [`look_up`](Self::look_up). A slot
    /// that matches by name and by pattern comes twice.
    pub(super) fn each_mixed(&self, channel: ChannelId, mut each: impl FnMut(u32)) {
        let Some(subscribers) = self.channels.get(&channel) else { return };
        subscribers.mixed.iter().copied().for_each(&mut each);
        for &pattern in &subscribers.patterns {
            if let Some(slots) = self.patterns.get(pattern) {
                slots.iter().copied().for_each(&mut each);
            }
        }
    }

    /// Removes vacant indexes after a round; calls `moved` with every slot whose index changed.
    pub(super) fn compact(&mut self, channel: ChannelId, mut moved: impl FnMut(u32, u32)) {
        let Some(subscribers) = self.channels.get_mut(&channel) else { return };
        if subscribers.vacant > 0 {
            subscribers.vacant = 0;
            let mut plain_index = 0;
            subscribers.plain.retain(|&slot| {
                if slot != VACANT {
                    moved(slot, plain_index);
                    plain_index += 1;
                }
                slot != VACANT
            });
        }
        self.drop_if_empty(channel);
    }

    /// Sets the number of channels in the directory. While far more are kept here for subscribers
    /// by pattern, the oldest are removed, a bounded number at each call and at each look-up that
    /// enters one.
    pub(super) fn prune(&mut self, channels: usize) {
        self.by_pattern_max = 2 * channels + 1_024;
        self.prune_some(PRUNED_PER_CALL, 0);
    }

    /// Removes at most `most` channels, until there is room for `more`.
    fn prune_some(&mut self, most: usize, more: usize) {
        let excess = (self.by_pattern.len() + more).saturating_sub(self.by_pattern_max);
        for _ in 0..excess.min(most) {
            let Some(channel) = self.by_pattern.pop_front() else { return };
            if let Some(subscribers) = self.channels.get_mut(&channel) {
                subscribers.is_by_pattern = false;
            }
            self.drop_if_empty(channel);
        }
    }

    /// The entry of a channel for a subscriber that names it, created if it is missing.
    fn named(&mut self, entry: &Arc<ChannelEntry>) -> &mut Subscribers {
        let shard = self.shard;
        let subscribers = self.subscribers(entry);
        if subscribers.named.is_none() {
            entry.shards().insert(shard);
            subscribers.named = Some(Arc::clone(entry));
        }
        subscribers
    }

    fn subscribers(&mut self, entry: &ChannelEntry) -> &mut Subscribers {
        self.channels.entry(entry.id()).or_insert_with(|| Subscribers {
            name: entry.name().clone(),
            named: None,
            is_by_pattern: false,
            plain: Vec::new(),
            vacant: 0,
            mixed: FxHashSet::default(),
            patterns: SmallVec::new(),
            // Never matched.
            version: u64::MAX,
        })
    }

    /// Removes a channel that no subscriber names, unless it is kept for subscribers by pattern.
    fn drop_if_empty(&mut self, channel: ChannelId) {
        let Some(unused) = self.channels.get_mut(&channel).filter(|found| found.is_unused()) else {
            return;
        };
        if let Some(entry) = unused.named.take() {
            entry.shards().remove(self.shard);
        }
        if !unused.is_by_pattern {
            self.channels.remove(&channel);
        }
    }
}

impl Subscribers {
    /// The length of its list of plain streams, vacant indexes included.
    pub(super) fn plain_len(&self) -> usize {
        self.plain.len()
    }

    /// Whether any connection of the mixed lane receives it.
    pub(super) fn has_mixed(&self) -> bool {
        !self.mixed.is_empty() || !self.patterns.is_empty()
    }

    fn is_unused(&self) -> bool {
        self.plain.is_empty() && self.mixed.is_empty()
    }
}

/// Channels checked by one call of `prune`. Checking all of 100,000 took 11 ms.
const PRUNED_PER_CALL: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors::subscriber::{Admission, CountedEntry, Shape},
        backend::{self, Directory},
        core::{ChannelPolicies, Limits, SlowPolicy, Subscription, Transport},
        model::{ChannelSelector, Start, TransferCoding},
    };

    fn subscriber(pattern: &str) -> Subscriber {
        let selector = ChannelSelector::parse(pattern).expect("a pattern");
        let subscription = Subscription::new([selector], [], 1).expect("a subscription");
        Subscriber {
            id: 1,
            patterns: subscription.into_patterns(),
            named: Vec::new(),
            counted_patterns: Vec::new(),
            shape: Arc::new(Shape::frames()),
            coding: TransferCoding::None,
            start: Start::Now,
            policy: SlowPolicy::Disconnect,
            ends_after_ms: None,
            opening: None,
            lease: None,
            client_info: None,
            record: None,
            replay: None,
            admission: Admission::take(&Arc::default(), 1).expect("a permit"),
        }
    }

    fn entry(directory: &Directory, name: &str) -> Arc<ChannelEntry> {
        let name = ChannelName::parse(name).expect("a name");
        directory.find_or_create(&name, 0).expect("room for it")
    }

    fn receivers(registry: &mut Registry, entry: &ChannelEntry) -> Vec<u32> {
        let mut slots = Vec::new();
        if registry.look_up(entry).is_some() {
            registry.each_mixed(entry.id(), |slot| slots.push(slot));
        }
        slots.sort_unstable();
        slots
    }

    #[test]
    fn a_shard_says_what_it_has_as_long_as_it_has_it() {
        let channels = backend::Registry::new(&Limits::default());
        let name = ChannelName::parse("t/7/x").expect("a name");
        let entry = channels.directory().find_or_create(&name, 0).expect("room for it");
        let gets_events = || channels.target_shards([&*entry]).contains(5);
        let mut registry = Registry::new(5, Arc::clone(channels.pattern_subscribers()));
        // Streams of it alone, also while a round is under way.
        assert!(!gets_events());
        assert_eq!([registry.add_plain(0, &entry), registry.add_plain(1, &entry)], [0, 1]);
        assert_eq!(registry.remove_plain(0, 0, entry.id(), false), Some(1));
        assert!(gets_events());
        assert_eq!(registry.remove_plain(1, 0, entry.id(), true), None);
        assert!(gets_events(), "until the round is through");
        registry.compact(entry.id(), |_, _| {});
        assert!(!gets_events());
        // Those that name it among others.
        let mut naming = subscriber("t/7/x");
        naming.named.push(CountedEntry::new(Arc::clone(&entry), Transport::Stream));
        registry.add_mixed(0, &naming);
        assert!(gets_events());
        assert_eq!(registry.add_plain(1, &entry), 0);
        registry.remove_mixed(0, &naming);
        assert!(gets_events(), "there is another");
        assert_eq!(registry.remove_plain(1, 0, entry.id(), false), None);
        assert!(!gets_events());
        // Patterns, whatever they match; a look-up by them does not make it a target shard.
        for pattern in ["t/*/x", "u/**"] {
            registry.add_mixed(0, &subscriber(pattern));
        }
        assert!(gets_events() && registry.look_up(&entry).is_some());
        registry.remove_mixed(0, &subscriber("t/*/x"));
        assert!(gets_events(), "there is another");
        registry.remove_mixed(0, &subscriber("u/**"));
        assert!(!gets_events());
    }

    #[test]
    fn an_event_costs_one_look_up_however_many_patterns_come_and_go() {
        let directory =
            Directory::new(100, 0, 1, ChannelPolicies::new(&Limits::default(), Vec::new()));
        let entry = entry(&directory, "t/7/x");
        let mut registry = Registry::new(0, Arc::default());
        registry.add_mixed(0, &subscriber("t/7/*"));
        assert_eq!(receivers(&mut registry, &entry), [0]);
        let one_look_up = registry.patterns.steps();
        for slot in 1..10_000 {
            registry.add_mixed(slot, &subscriber(&format!("t/{slot}/*")));
        }
        let steps = registry.patterns.steps();
        assert_eq!(receivers(&mut registry, &entry), [0, 7]);
        assert_eq!(registry.patterns.steps() - steps, one_look_up);
        // Nothing came or went since.
        assert_eq!(receivers(&mut registry, &entry), [0, 7]);
        assert_eq!(registry.patterns.steps() - steps, one_look_up);
        for slot in 1..10_000 {
            registry.remove_mixed(slot, &subscriber(&format!("t/{slot}/*")));
        }
        assert_eq!(receivers(&mut registry, &entry), [0]);
        assert_eq!(registry.patterns.steps() - steps, 2 * one_look_up);
        assert_eq!(registry.patterns.len(), 1);
    }

    #[test]
    fn evicted_channels_are_pruned_some_at_a_time_and_those_with_subscribers_stay() {
        let directory =
            Directory::new(20_000, 0, 1, ChannelPolicies::new(&Limits::default(), Vec::new()));
        let mut registry = Registry::new(0, Arc::default());
        registry.add_mixed(0, &subscriber("**"));
        let entries: Vec<_> = (0..10_000).map(|n| entry(&directory, &format!("c/{n}"))).collect();
        let (earlier, later) = entries.split_at(5_000);
        earlier.iter().for_each(|entry| assert_eq!(receivers(&mut registry, entry), [0]));
        registry.add_plain(1, &entries[7]);
        // Below the bound, and at it.
        for channels in [5_000, 1_988] {
            registry.prune(channels);
            assert_eq!(registry.channels.len(), 5_000);
        }
        for left in [3_977, 2_953, 1_929, 1_025, 1_025] {
            registry.prune(0);
            assert_eq!(registry.channels.len(), left, "one of them stays");
        }
        // However many come between two calls.
        later.iter().for_each(|entry| assert_eq!(receivers(&mut registry, entry), [0]));
        assert_eq!(registry.channels.len(), 1_025);
        assert_eq!(registry.plain(entries[7].id()), [1]);
        assert_eq!(receivers(&mut registry, &entries[8]), [0], "it is looked up anew");
        assert_eq!(registry.remove_plain(1, 0, entries[7].id(), false), None);
        assert_eq!(registry.channels.len(), 1_024);
    }

    #[test]
    fn a_channel_that_is_named_again_and_again_reaches_its_subscribers_by_pattern_always() {
        let directory =
            Directory::new(10, 0, 1, ChannelPolicies::new(&Limits::default(), Vec::new()));
        let mut registry = Registry::new(0, Arc::default());
        registry.add_mixed(0, &subscriber("**"));
        registry.prune(0);
        let entry = entry(&directory, "polled");
        for cycle in 0..3_000 {
            let index = registry.add_plain(1, &entry);
            registry.remove_plain(1, index, entry.id(), false);
            assert_eq!(receivers(&mut registry, &entry), [0], "cycle {cycle}");
            assert!(registry.channels[&entry.id()].named.is_none(), "cycle {cycle}");
        }
        assert_eq!((registry.channels.len(), registry.by_pattern.len()), (1, 1));
    }
}
