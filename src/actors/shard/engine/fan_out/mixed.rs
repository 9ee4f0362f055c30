//! The rounds of the mixed lane: which slots receive what of a round, and which channels wait too
//! long there.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{FanOut, throttle_all};
use crate::actors::{
    batch::{Batch, Run},
    shard::{
        mixed_lane::MixedRound, registry::Subscribers, round_start::RoundStart, sets::ChannelSets,
        slot::Slot, slots::Slots,
    },
};

impl FanOut {
    /// The mixed lane's round under way, or a new one; to be returned with
    /// [`return_mixed_round`](Self::return_mixed_round). `None` without a round, and while the
    /// slots of a new one are being collected, a bounded number in each call.
    #[inline]
    pub(in crate::actors::shard::engine) fn take_mixed_round(
        &mut self,
        slots: &Slots<Slot>,
        now_ms: u64,
    ) -> Option<MixedRound> {
        let start = match self.mixed_start.take() {
            None if self.mixed.has_round() => None,
            None if self.mixed.is_idle() || !self.gathering.is_mixed_due(now_ms) => return None,
            None => Some(self.begin_mixed_round(now_ms)?),
            start => start,
        };
        if let Some(start) = start {
            self.mixed_start = self.collect_slots(start, slots);
            if self.mixed_start.is_some() {
                return None;
            }
        }
        self.mixed.take_round(now_ms)
    }

    /// Begins the next round of the mixed lane; none if no batch is queued.
    fn begin_mixed_round(&mut self, now_ms: u64) -> Option<RoundStart> {
        let channels = self.mixed.begin(now_ms)?.into_iter().enumerate();
        if !self.late_in_mixed.is_empty() && !self.is_mixed_late(now_ms) {
            self.late_in_mixed.clear();
        }
        Some(RoundStart { channels, slots: Vec::new(), number: 0, ended: FxHashSet::default() })
    }

    /// Adds slots to the round that begins, at most [`SLOTS_PER_SLICE`]; returns the rest of the
    /// work.
    ///
    /// A connection that subscribes meanwhile may be added too. It has started after the round, so
    /// the round sends it nothing.
    fn collect_slots(&mut self, mut start: RoundStart, slots: &Slots<Slot>) -> Option<RoundStart> {
        let (registry, mixed) = (&mut self.registry, &mut self.mixed);
        mixed.reserve_sets(slots.capacity());
        let mut left = SLOTS_PER_SLICE;
        loop {
            let rest = start.slots.len().saturating_sub(left);
            left -= start.slots.len() - rest;
            for slot in start.slots.drain(rest..) {
                if !start.ended.contains(&slot) {
                    mixed.add_due(slot, start.number);
                }
            }
            if left == 0 {
                return Some(start);
            }
            let Some((number, (batch, run))) = start.channels.next() else { break };
            left -= 1;
            let entry = &batch.runs()[run].entry;
            if registry.look_up(entry).is_none() {
                continue;
            }
            let (channel, number) = (entry.id(), number as u32);
            match left.checked_sub(registry.mixed_len(channel)) {
                Some(after) => {
                    registry.each_mixed(channel, |slot| mixed.add_due(slot, number));
                    left = after;
                }
                None => {
                    registry.each_mixed(channel, |slot| start.slots.push(slot));
                    start.number = number;
                    start.ended.clear();
                }
            }
        }
        mixed.trace_round(self.shard, |channel| registry.has_mixed(channel));
        None
    }

    /// A connection of the mixed lane has ended.
    pub(super) fn leave_round_start(&mut self, slot: u32) {
        if let Some(start) = &mut self.mixed_start
            && !start.slots.is_empty()
        {
            start.ended.insert(slot);
        }
    }

    /// The set of the round's channels that a slot receives; `None` if its connection has ended.
    #[inline]
    pub(in crate::actors::shard::engine) fn due_set(&self, slot: u32) -> Option<u32> {
        let set = self.mixed.set(slot);
        (set != ChannelSets::EMPTY).then_some(set)
    }

    /// Notes that a slot has received all its events of the round.
    #[inline]
    pub(in crate::actors::shard::engine) fn clear_set(&mut self, slot: u32) {
        self.mixed.clear_set(slot);
    }

    /// Returns a round; false if it is over.
    pub(in crate::actors::shard::engine) fn return_mixed_round(
        &mut self,
        round: MixedRound,
    ) -> bool {
        let delay = round.since_shown();
        let has_more = self.mixed.return_round(round);
        if !has_more && let Some(delay) = delay {
            self.delays.observe_time(delay);
        }
        has_more
    }

    /// Queues a batch in the mixed lane. If a batch would wait too long there, the channels of this
    /// batch are throttled. Channels of earlier batches in the lane are not: perhaps no further
    /// event will be published to them.
    pub(super) fn push_mixed(&mut self, batch: Arc<Batch>, now_ms: u64) {
        if self.mixed.is_idle() {
            self.gathering.begin_mixed(batch.shown_ms());
        }
        self.mixed.push(Arc::clone(&batch));
        if self.is_mixed_late(now_ms) {
            let registry = &mut self.registry;
            let mut has_mixed =
                |run: &&Run| registry.look_up(&run.entry).is_some_and(Subscribers::has_mixed);
            let channels: Vec<_> = batch
                .runs()
                .iter()
                .filter(|run| has_mixed(run))
                .map(|run| run.entry.id())
                .collect();
            throttle_all(&self.throttles, &mut self.late_in_mixed, channels);
        }
    }

    fn is_mixed_late(&self, now_ms: u64) -> bool {
        self.mixed.delay_ms(now_ms) > self.throttles.delay_max_ms()
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Slots that are added in one slice to a round that begins, and channels that are looked up.
const SLOTS_PER_SLICE: usize = if cfg!(test) { 5 } else { 8_192 };
