//! What is still known of channels that are no longer in the directory: how far their events are
//! gone, so that a resume on one of them is answered honestly, and without false gaps.

use std::collections::{HashMap, VecDeque};

use crate::model::{ChannelName, ChannelPattern, Seq};

/// The last evicted event of forgotten channels: one by one for the latest of them, and one floor
/// for all before.
#[derive(Debug)]
pub(super) struct Forgotten {
    evicted: HashMap<ChannelName, Seq>,
    order: VecDeque<ChannelName>,
    entries_max: usize,
    floor: Seq,
    highest: Seq,
}

impl Forgotten {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            evicted: HashMap::new(),
            order: VecDeque::new(),
            entries_max,
            floor: Seq::ZERO,
            highest: Seq::ZERO,
        }
    }

    /// Remembers that the events of `name` up to `evicted_through` are gone.
    pub(super) fn record(&mut self, name: ChannelName, evicted_through: Seq) {
        if evicted_through == Seq::ZERO {
            return;
        }
        self.highest = self.highest.max(evicted_through);
        if self.evicted.insert(name.clone(), evicted_through).is_none() {
            self.order.push_back(name);
        }
        while self.evicted.len() > self.entries_max {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(seq) = self.evicted.remove(&oldest) {
                self.floor = self.floor.max(seq);
            }
        }
        // `recall` leaves names in the order; let them go before they outnumber the living.
        if self.order.len() > 2 * self.entries_max + 16 {
            self.order.retain(|name| self.evicted.contains_key(name));
        }
    }

    /// How far the events of `name` are gone, for its next incarnation.
    pub(super) fn recall(&mut self, name: &ChannelName) -> Seq {
        match self.evicted.remove(name) {
            Some(seq) => {
                self.order.retain(|other| other != name);
                seq
            }
            None => self.floor,
        }
    }

    /// The highest seq that a channel matching one of `patterns` has lost, if that is after
    /// `after`.
    pub(super) fn lost_after(&self, patterns: &[ChannelPattern], after: Seq) -> Option<Seq> {
        if self.highest <= after || patterns.is_empty() {
            return None;
        }
        let named = self
            .evicted
            .iter()
            .filter(|(name, seq)| **seq > after && patterns.iter().any(|p| p.matches(name)))
            .map(|(_, seq)| *seq);
        named.chain([self.floor]).filter(|seq| *seq > after).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).expect("a name")
    }

    #[test]
    fn the_latest_are_exact_and_the_others_share_a_floor() {
        let mut forgotten = Forgotten::new(2);
        for (i, channel) in ["a", "b", "c"].into_iter().enumerate() {
            forgotten.record(name(channel), Seq(10 * (i as u64 + 1)));
        }
        assert_eq!(forgotten.recall(&name("c")), Seq(30));
        assert_eq!(forgotten.recall(&name("a")), Seq(10), "the floor");
        assert_eq!(forgotten.recall(&name("never")), Seq(10), "the floor");
    }

    #[test]
    fn a_pattern_hears_only_of_channels_it_matches() {
        let mut forgotten = Forgotten::new(10);
        forgotten.record(name("a/x"), Seq(5));
        let patterns = |text| [ChannelPattern::parse(text).expect("a pattern")];
        assert_eq!(forgotten.lost_after(&patterns("a/*"), Seq(4)), Some(Seq(5)));
        assert_eq!(forgotten.lost_after(&patterns("a/*"), Seq(5)), None);
        assert_eq!(forgotten.lost_after(&patterns("b/*"), Seq(4)), None);
    }
}
