//! The rounds of the mixed lane: which slots receive what of a round, and which channels wait too long there.

use std::sync::Arc;

use super::{FanOut, throttle_all};
use crate::actors::{
    batch::{Batch, Run},
    shard::{
        mixed_lane::MixedRound, registry::Subscribers, sets::ChannelSets, slot::Slot, slots::Slots,
    },
};

impl FanOut {
    /// The mixed lane's round under way, or a new one; to be returned with
    /// [`return_mixed_round`](Self::return_mixed_round).
    #[inline]
    pub(in crate::actors::shard::engine) fn take_mixed_round(
        &mut self,
        slots: &Slots<Slot>,
        now_ms: u64,
    ) -> Option<MixedRound> {
        if !self.mixed.has_round() {
            if self.mixed.is_idle() || !self.gathering.is_mixed_due(now_ms) {
                return None;
            }
            self.begin_mixed_round(slots, now_ms);
        }
        self.mixed.take_round()
    }

    /// Begins the next round of the mixed lane; none if no batch is queued.
    fn begin_mixed_round(&mut self, slots: &Slots<Slot>, now_ms: u64) {
        let Some(channels) = self.mixed.begin(slots.capacity(), now_ms) else { return };
        if !self.late_in_mixed.is_empty() && !self.is_mixed_late(now_ms) {
            self.late_in_mixed.clear();
        }
        for (number, (batch, run)) in channels.iter().enumerate() {
            let entry = &batch.runs()[*run].entry;
            if self.registry.look_up(entry).is_some() {
                let mixed = &mut self.mixed;
                self.registry.each_mixed(entry.id(), |slot| mixed.add_due(slot, number as u32));
            }
        }
        let registry = &self.registry;
        self.mixed.trace_round(self.shard, |channel| registry.has_mixed(channel));
    }

    /// The set of the round's channels that a slot receives; `None` if its connection has ended.
    #[inline]
    pub(in crate::actors::shard::engine) fn due_set(&self, slot: u32) -> Option<u32> {
        let set = self.mixed.set(slot);
        (set != ChannelSets::EMPTY).then_some(set)
    }

    /// A slot has received all its events of the round.
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
