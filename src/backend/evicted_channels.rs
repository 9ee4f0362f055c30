//! Evicted channels: the last event that each has lost, so that a resume on one of them gets a gap
//! if it lost something, and no false gap.

use std::collections::{BTreeMap, VecDeque};

use super::{
    losses::{KnownLosses, Losses, LostThrough},
    walk::Walk,
};
use crate::model::{ChannelName, ChannelPattern, Seq};

/// The last event that evicted channels have lost: by name for the channels that were recorded
/// last, and together for all others.
///
/// A channel that is created again stays here: a reader that lists channels and then asks here
/// misses none that came back in between, and what is known here of a living channel is true of it
/// too.
#[derive(Debug)]
pub(super) struct EvictedChannels {
    /// The losses, and the number of their record.
    names: BTreeMap<ChannelName, (Losses, u64)>,
    /// The records in their order. A record is out of date if its name was recorded again since.
    order: VecDeque<(ChannelName, u64)>,
    recorded: u64,
    entries_max: usize,
    /// What any evicted channel that is no longer in `names` may have lost.
    unnamed: Losses,
    /// Patterns of transient channels, each with the seq up to which matching channels may have
    /// lost events at the last restart.
    transient: Vec<(ChannelPattern, Seq)>,
}

impl EvictedChannels {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            names: BTreeMap::new(),
            order: VecDeque::new(),
            recorded: 0,
            entries_max,
            unnamed: Losses::default(),
            transient: Vec::new(),
        }
    }

    /// Notes that any channel that matches one of these patterns may have lost events up to the seq
    /// beside it.
    pub(super) fn lose_transient(&mut self, lost: Vec<(ChannelPattern, Seq)>) {
        self.transient = lost;
    }

    /// Remembers what `name` has lost.
    pub(super) fn record(&mut self, name: ChannelName, losses: Losses) {
        if losses.through == Seq::ZERO {
            return;
        }
        self.recorded += 1;
        self.names.insert(name.clone(), (losses, self.recorded));
        self.order.push_back((name, self.recorded));
        while self.names.len() > self.entries_max {
            let Some((oldest, recorded)) = self.order.pop_front() else { break };
            if self.is_latest(&oldest, recorded)
                && let Some((losses, _)) = self.names.remove(&oldest)
            {
                self.unnamed.through = self.unnamed.through.max(losses.through);
                self.unnamed.eviction = self.unnamed.eviction.max(losses.eviction);
            }
        }
        // Names that are recorded again and again must not fill the order.
        if self.order.len() > 2 * self.entries_max + 16 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(name, recorded)| self.is_latest(name, *recorded));
            self.order = order;
        }
    }

    /// Notes that any channel whose losses are not kept by name may have lost events up to
    /// `through`.
    pub(super) fn raise_unnamed(&mut self, through: Seq) {
        self.unnamed.through = self.unnamed.through.max(through);
    }

    /// Notes what channels may have lost. Drops what was known of them.
    pub(super) fn reset(&mut self, lost: LostThrough) {
        self.names.clear();
        self.order.clear();
        self.unnamed = Losses { through: lost.others, eviction: 0 };
        for (name, through) in lost.named {
            self.record(name, Losses { through, eviction: 0 });
        }
    }

    /// Whether no evicted channel is known to have lost an event.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.unnamed.through == Seq::ZERO
    }

    /// What earlier incarnations of `name` may have lost.
    pub(super) fn recall(&self, name: &ChannelName) -> Losses {
        let mut losses = self.names.get(name).map_or(self.unnamed, |(losses, _)| *losses);
        for (_, through) in self.transient.iter().filter(|(pattern, _)| pattern.matches(name)) {
            losses.through = losses.through.max(*through);
        }
        losses
    }

    /// Whether a channel among the next `names_max` of a walk matches one of `patterns` and has
    /// lost an event after `after` that the reader does not know of. At the end of the walk it is
    /// also asked whether a channel that is not in `names` may have lost one: at the end, since
    /// names may move from `names` to `unnamed` during the walk.
    pub(super) fn any_lost(
        &self,
        walk: &mut Walk,
        names_max: usize,
        patterns: &[ChannelPattern],
        after: Seq,
        known: KnownLosses,
    ) -> bool {
        let mut lost = false;
        walk.visit(&self.names, names_max, |name, (losses, _)| {
            lost |= losses.are_unknown(after, known)
                && patterns.iter().any(|pattern| pattern.matches(name));
        });
        let transient = || {
            self.transient.iter().any(|(lost, through)| {
                let losses = Losses { through: *through, eviction: 0 };
                losses.are_unknown(after, known)
                    && patterns.iter().any(|pattern| pattern.intersects(lost))
            })
        };
        lost || walk.is_over() && (self.unnamed.are_unknown(after, known) || transient())
    }

    /// How many records there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len().max(self.names.len())
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
        let mut evicted = EvictedChannels::new(2);
        for (channel, seq) in [("a", 10), ("b", 20), ("a", 25), ("c", 30)] {
            evicted.record(name(channel), losses(seq));
        }
        assert_eq!(evicted.recall(&name("c")), losses(30));
        assert_eq!(evicted.recall(&name("a")), losses(25), "later than b");
        assert_eq!(evicted.recall(&name("b")), losses(20), "of those without a name here");
        assert_eq!(evicted.recall(&name("never")), losses(20), "of those without a name here");
    }

    #[test]
    fn names_recorded_over_and_over_fill_nothing() {
        let mut evicted = EvictedChannels::new(3);
        for seq in 1..1_000 {
            evicted.record(name(["a", "b"][seq as usize % 2]), losses(seq));
        }
        assert!(evicted.order.len() <= 2 * 3 + 16 + 1);
        assert_eq!(evicted.recall(&name("b")), losses(999));
        assert_eq!(evicted.unnamed, Losses::default());
    }

    #[test]
    fn a_pattern_has_lost_only_of_channels_it_matches_and_only_unknown_losses() {
        let mut evicted = EvictedChannels::new(10);
        evicted.record(name("a/x"), Losses { through: Seq(5), eviction: 7 });
        evicted.record(name("ab/x"), Losses { through: Seq(9), eviction: 8 });
        let has_lost = |text, after, known| {
            let patterns = [ChannelPattern::parse(text).expect("a pattern")];
            let known = KnownLosses { evictions: known, through: Seq(8) };
            evicted.any_lost(&mut Walk::new(&patterns), 9, &patterns, Seq(after), known)
        };
        assert!(has_lost("a/*", 4, 0));
        assert!(!has_lost("a/*", 5, 0));
        assert!(!has_lost("b/*", 4, 0));
        assert!(has_lost("a/*", 4, 6));
        assert!(!has_lost("a/*", 4, 7), "that is known");
        assert!(has_lost("ab/*", 4, 9), "that came after all that the reader knows of");
    }

    #[test]
    fn a_walk_in_pieces_misses_no_channel_that_goes_into_the_floor_meanwhile() {
        let mut evicted = EvictedChannels::new(2);
        evicted.record(name("a"), losses(10));
        evicted.record(name("b"), losses(20));
        let patterns = [ChannelPattern::parse("**").expect("a pattern")];
        let mut walk = Walk::new(&patterns);
        let mut any_lost = |evicted: &EvictedChannels, after| {
            let known = KnownLosses::default();
            let lost = evicted.any_lost(&mut walk, 1, &patterns, Seq(after), known);
            (lost, walk.is_over())
        };
        assert_eq!(any_lost(&evicted, 15), (false, false), "a has lost nothing after that");
        for (channel, seq) in [("c", 5), ("d", 6)] {
            evicted.record(name(channel), losses(seq));
        }
        // B is among the channels without a name here.
        assert_eq!(any_lost(&evicted, 15), (false, false), "c");
        assert_eq!(any_lost(&evicted, 15), (false, false), "d");
        assert_eq!(any_lost(&evicted, 15), (true, true));
    }
}
