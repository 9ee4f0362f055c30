//! What is still known of channels that are no longer in the directory: how far their events are
//! gone, so that a resume on one of them is answered honestly, and without false gaps.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use super::reading::Told;
use crate::model::{ChannelName, ChannelPattern, Seq};

/// The last evicted event of forgotten channels: one by one for the latest of them, and one floor
/// for all before.
///
/// A channel that is born again stays here: who lists channels and then asks here misses none that
/// came back in between, and what is known here of a living channel is true of it too.
#[derive(Debug)]
pub(super) struct Forgotten {
    names: BTreeMap<ChannelName, (Losses, u64)>,
    /// Names by when they were recorded. Those recorded again since are passed over.
    order: VecDeque<(ChannelName, u64)>,
    recorded: u64,
    entries_max: usize,
    floor: Losses,
    highest: Seq,
}

/// How far events are gone, and the number of the latest eviction among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) through: Seq,
    pub(super) eviction: u64,
}

impl Losses {
    fn is_news(self, after: Seq, told: Told) -> bool {
        self.through > after && self.eviction > told.0
    }
}

impl Forgotten {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            names: BTreeMap::new(),
            order: VecDeque::new(),
            recorded: 0,
            entries_max,
            floor: Losses::default(),
            highest: Seq::ZERO,
        }
    }

    /// Remembers what `name` has lost.
    pub(super) fn record(&mut self, name: ChannelName, losses: Losses) {
        if losses.through == Seq::ZERO {
            return;
        }
        self.highest = self.highest.max(losses.through);
        self.recorded += 1;
        self.names.insert(name.clone(), (losses, self.recorded));
        self.order.push_back((name, self.recorded));
        while self.names.len() > self.entries_max {
            let Some((oldest, recorded)) = self.order.pop_front() else { break };
            if self.is_latest(&oldest, recorded)
                && let Some((losses, _)) = self.names.remove(&oldest)
            {
                self.floor.through = self.floor.through.max(losses.through);
                self.floor.eviction = self.floor.eviction.max(losses.eviction);
            }
        }
        // Names that are recorded again and again must not fill the order.
        if self.order.len() > 2 * self.entries_max + 16 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(name, recorded)| self.is_latest(name, *recorded));
            self.order = order;
        }
    }

    /// What earlier incarnations of `name` have lost.
    pub(super) fn recall(&self, name: &ChannelName) -> Losses {
        self.names.get(name).map_or(self.floor, |(losses, _)| *losses)
    }

    /// Whether a channel that matches one of `patterns` has lost an event after `after` that the
    /// reader has not been told of.
    pub(super) fn has_lost(&self, patterns: &[ChannelPattern], after: Seq, told: Told) -> bool {
        if self.highest <= after || patterns.is_empty() {
            return false;
        }
        self.floor.is_news(after, told)
            || patterns.iter().any(|pattern| {
                let prefix = pattern.literal_prefix();
                let names = self.names.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
                names
                    .take_while(|(name, _)| name.as_str().starts_with(prefix))
                    .any(|(name, (losses, _))| losses.is_news(after, told) && pattern.matches(name))
            })
    }

    fn is_latest(&self, name: &ChannelName, recorded: u64) -> bool {
        self.names.get(name).is_some_and(|(_, latest)| *latest == recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).expect("a name")
    }

    fn losses(seq: u64) -> Losses {
        Losses { through: Seq(seq), eviction: seq / 10 }
    }

    #[test]
    fn the_latest_are_exact_and_the_others_share_a_floor() {
        let mut forgotten = Forgotten::new(2);
        for (channel, seq) in [("a", 10), ("b", 20), ("a", 25), ("c", 30)] {
            forgotten.record(name(channel), losses(seq));
        }
        assert_eq!(forgotten.recall(&name("c")), losses(30));
        assert_eq!(forgotten.recall(&name("a")), losses(25), "later than b");
        assert_eq!(forgotten.recall(&name("b")), losses(20), "the floor");
        assert_eq!(forgotten.recall(&name("never")), losses(20), "the floor");
    }

    #[test]
    fn names_recorded_over_and_over_fill_nothing() {
        let mut forgotten = Forgotten::new(3);
        for seq in 1..1_000 {
            forgotten.record(name(["a", "b"][seq as usize % 2]), losses(seq));
        }
        assert!(forgotten.order.len() <= 2 * 3 + 16 + 1);
        assert_eq!(forgotten.recall(&name("b")), losses(999));
        assert_eq!(forgotten.floor, Losses::default());
    }

    #[test]
    fn a_pattern_hears_only_of_channels_it_matches_and_of_what_is_news() {
        let mut forgotten = Forgotten::new(10);
        forgotten.record(name("a/x"), Losses { through: Seq(5), eviction: 7 });
        forgotten.record(name("ab/x"), Losses { through: Seq(9), eviction: 8 });
        let has_lost = |text, after, told| {
            let patterns = [ChannelPattern::parse(text).expect("a pattern")];
            forgotten.has_lost(&patterns, Seq(after), Told(told))
        };
        assert!(has_lost("a/*", 4, 0));
        assert!(!has_lost("a/*", 5, 0));
        assert!(!has_lost("b/*", 4, 0));
        assert!(has_lost("a/*", 4, 6));
        assert!(!has_lost("a/*", 4, 7), "that has been told");
    }
}
