//! Sets of channels by number, so that one comparison finds connections that receive the same of a
//! round, however many channels the round has.

use rustc_hash::FxHashMap;

/// The sets of channels of one round, by number. A set is extended by one channel at a time; equal
/// sets that were extended in the same order have the same number.
#[derive(Debug)]
pub(super) struct ChannelSets {
    sets: Vec<Set>,
    /// The extensions but the latest: set, channel and extended set. Empty in a round of one
    /// channel.
    earlier: FxHashMap<(u32, u32), u32>,
    /// The latest extension: most connections repeat that of the connection before.
    latest: Option<((u32, u32), u32)>,
}

#[derive(Debug)]
struct Set {
    without: u32,
    channel: u32,
}

impl ChannelSets {
    /// The number of the empty set.
    pub(super) const EMPTY: u32 = 0;

    pub(super) fn new() -> Self {
        Self {
            sets: vec![Set { without: Self::EMPTY, channel: u32::MAX }],
            earlier: FxHashMap::default(),
            latest: None,
        }
    }

    /// The number of `set` extended by `channel`. A channel that is already in the set must be the
    /// one added last.
    pub(super) fn with(&mut self, set: u32, channel: u32) -> u32 {
        let key = (set, channel);
        match self.latest {
            Some((latest, extended)) if latest == key => return extended,
            _ if self.sets[set as usize].channel == channel => return set,
            Some((latest, extended)) => _ = self.earlier.insert(latest, extended),
            None => {}
        }
        let known = self.earlier.get(&key).copied();
        let extended = known.unwrap_or_else(|| {
            self.sets.push(Set { without: set, channel });
            (self.sets.len() - 1) as u32
        });
        self.latest = Some((key, extended));
        extended
    }

    /// The channels of a set, the latest first.
    pub(super) fn channels(&self, set: u32) -> impl Iterator<Item = u32> {
        let mut set = set;
        std::iter::from_fn(move || {
            let Set { without, channel } = self.sets[set as usize];
            (set != Self::EMPTY).then(|| {
                set = without;
                channel
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_number_and_others_another() {
        let mut sets = ChannelSets::new();
        let mut slots = [ChannelSets::EMPTY; 4];
        for channel in 0..1_000 {
            for (n, slot) in slots.iter_mut().enumerate() {
                // Two take everything, one of them for two reasons; the others take parts.
                if n < 2 || channel % n == 0 {
                    *slot = sets.with(*slot, channel as u32);
                }
                if n == 1 {
                    *slot = sets.with(*slot, channel as u32);
                }
            }
        }
        assert_eq!(slots[0], slots[1]);
        assert_eq!(sets.channels(slots[0]).count(), 1_000);
        let thirds: Vec<u32> = sets.channels(slots[3]).collect();
        assert_eq!((thirds.len(), thirds[0], thirds[333]), (334, 999, 0));
        assert_eq!(sets.channels(ChannelSets::EMPTY).count(), 0);
    }
}
