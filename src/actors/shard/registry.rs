//! Which slots receive which channel.

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::{
    actors::subscriber::Subscriber,
    backend::{ChannelEntry, ChannelId},
    model::{ChannelName, ChannelPattern},
};

/// The subscribers of a shard, by channel and by pattern.
#[derive(Debug, Default)]
pub(super) struct Registry {
    channels: FxHashMap<ChannelId, Subscribers>,
    patterns: std::collections::HashMap<ChannelPattern, u32>,
    groups: slab::Slab<Group>,
    /// Raised by every new pattern, so that channels match anew on their next event.
    version: u64,
}

/// The subscribers of one channel.
#[derive(Debug)]
pub(super) struct Subscribers {
    name: ChannelName,
    /// Streams of this channel alone, in its plain form. [`VACANT`] where one left while a round
    /// was under way.
    plain: Vec<u32>,
    vacant: usize,
    /// Slots that name it among others, or want another form.
    mixed: FxHashSet<u32>,
    /// Patterns that match it, as of `version`.
    groups: SmallVec<[u32; 2]>,
    version: u64,
}

#[derive(Debug)]
struct Group {
    pattern: ChannelPattern,
    slots: FxHashSet<u32>,
}

/// A place in a list whose slot has left.
pub(super) const VACANT: u32 = u32::MAX;

impl Registry {
    /// Adds a plain stream and gives its place.
    pub(super) fn add_plain(&mut self, slot: u32, entry: &ChannelEntry) -> u32 {
        let subscribers = self.subscribers(entry);
        subscribers.plain.push(slot);
        (subscribers.plain.len() - 1) as u32
    }

    /// Adds any other connection.
    pub(super) fn add_mixed(&mut self, slot: u32, subscriber: &Subscriber) {
        for counted in &subscriber.named {
            self.subscribers(counted.entry()).mixed.insert(slot);
        }
        for pattern in subscriber.subscription.patterns() {
            let group = match self.patterns.get(pattern) {
                Some(&group) => group,
                None => {
                    let group = Group { pattern: pattern.clone(), slots: FxHashSet::default() };
                    let index = self.groups.insert(group) as u32;
                    self.patterns.insert(pattern.clone(), index);
                    self.version += 1;
                    index
                }
            };
            self.groups[group as usize].slots.insert(slot);
        }
    }

    /// Takes a plain stream out of its channel's list. While a round of the channel is under way
    /// its place stays vacant; otherwise the last of the list moves there, and is returned.
    pub(super) fn remove_plain(
        &mut self,
        slot: u32,
        place: u32,
        channel: ChannelId,
        in_round: bool,
    ) -> Option<u32> {
        let subscribers = self.channels.get_mut(&channel)?;
        let place = place as usize;
        debug_assert_eq!(subscribers.plain.get(place), Some(&slot));
        if in_round {
            subscribers.plain[place] = VACANT;
            subscribers.vacant += 1;
            return None;
        }
        subscribers.plain.swap_remove(place);
        let moved = subscribers.plain.get(place).copied();
        self.drop_if_empty(channel);
        moved
    }

    /// Takes any other connection out.
    pub(super) fn remove_mixed(&mut self, slot: u32, subscriber: &Subscriber) {
        for counted in &subscriber.named {
            let channel = counted.entry().id();
            if let Some(subscribers) = self.channels.get_mut(&channel) {
                subscribers.mixed.remove(&slot);
                self.drop_if_empty(channel);
            }
        }
        for pattern in subscriber.subscription.patterns() {
            let Some(&index) = self.patterns.get(pattern) else { continue };
            let group = &mut self.groups[index as usize];
            group.slots.remove(&slot);
            if group.slots.is_empty() {
                self.groups.remove(index as usize);
                self.patterns.remove(pattern);
                self.version += 1;
            }
        }
    }

    /// The channel's subscribers if this shard has any; a channel it sees for the first time is
    /// matched against the patterns.
    pub(super) fn look_up(&mut self, entry: &ChannelEntry) -> Option<&Subscribers> {
        if !self.channels.contains_key(&entry.id()) {
            if self.groups.is_empty() {
                return None;
            }
            self.subscribers(entry);
        }
        let (groups, version) = (&self.groups, self.version);
        let subscribers = self.channels.get_mut(&entry.id())?;
        if subscribers.version != version {
            let matching = groups.iter().filter(|(_, g)| g.pattern.matches(&subscribers.name));
            subscribers.groups = matching.map(|(index, _)| index as u32).collect();
            subscribers.version = version;
        }
        Some(subscribers)
    }

    /// The plain streams of a channel.
    pub(super) fn plain(&self, channel: ChannelId) -> &[u32] {
        self.channels.get(&channel).map_or(&[], |subscribers| &subscribers.plain)
    }

    /// Calls `each` with every mixed slot of a channel found by [`look_up`](Self::look_up); a
    /// slot with two reasons comes twice.
    pub(super) fn each_mixed(&self, channel: ChannelId, mut each: impl FnMut(u32)) {
        let Some(subscribers) = self.channels.get(&channel) else { return };
        subscribers.mixed.iter().copied().for_each(&mut each);
        for &group in &subscribers.groups {
            if let Some(group) = self.groups.get(group as usize) {
                group.slots.iter().copied().for_each(&mut each);
            }
        }
    }

    /// Closes the vacant places after a round; `moved` hears of every slot whose place changed.
    pub(super) fn compact(&mut self, channel: ChannelId, mut moved: impl FnMut(u32, u32)) {
        let Some(subscribers) = self.channels.get_mut(&channel) else { return };
        if subscribers.vacant > 0 {
            subscribers.vacant = 0;
            let mut place = 0;
            subscribers.plain.retain(|&slot| {
                if slot != VACANT {
                    moved(slot, place);
                    place += 1;
                }
                slot != VACANT
            });
        }
        self.drop_if_empty(channel);
    }

    /// Forgets channels without subscribers here, when there are far more of them than channels
    /// at all.
    pub(super) fn prune(&mut self, channels: usize) {
        if self.channels.len() > 2 * channels + 1_024 {
            self.channels.retain(|_, subscribers| !subscribers.is_unused());
        }
    }

    fn subscribers(&mut self, entry: &ChannelEntry) -> &mut Subscribers {
        self.channels.entry(entry.id()).or_insert_with(|| Subscribers {
            name: entry.name().clone(),
            plain: Vec::new(),
            vacant: 0,
            mixed: FxHashSet::default(),
            groups: SmallVec::new(),
            // Never matched.
            version: u64::MAX,
        })
    }

    fn drop_if_empty(&mut self, channel: ChannelId) {
        if self.channels.get(&channel).is_some_and(Subscribers::is_unused) {
            self.channels.remove(&channel);
        }
    }
}

impl Subscribers {
    /// How many places its list of plain streams has.
    pub(super) fn plain_len(&self) -> usize {
        self.plain.len()
    }

    /// Whether any other connection receives it.
    pub(super) fn has_mixed(&self) -> bool {
        !self.mixed.is_empty() || !self.groups.is_empty()
    }

    fn is_unused(&self) -> bool {
        self.plain.is_empty() && self.mixed.is_empty()
    }
}
