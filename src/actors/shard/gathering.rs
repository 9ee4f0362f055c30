//! Events that wait for further events of their channel, so that one send carries several: on a
//! shard that is busy all the time, the number of sends is what limits it.
//!
//! How long they wait is up to [`GatherTime`](super::gather_time::GatherTime).

use std::collections::VecDeque;

use crate::backend::ChannelId;

/// The lanes whose events wait for more.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    wait_ms: u64,
    /// In the order in which they began to wait. After a change of `wait_ms` a lane may wait longer
    /// than its own time, until those before it are due.
    lanes: VecDeque<(u64, ChannelId)>,
    /// When the batches of the mixed lane are due; without meaning while it has none.
    mixed_until_ms: u64,
}

impl Gathering {
    /// How long events wait for more, in milliseconds; 0 if they do not.
    #[inline]
    pub(super) fn wait_ms(&self) -> u64 {
        self.wait_ms
    }

    /// Sets how long events wait for more. Events that wait already keep their time.
    pub(super) fn set_wait_ms(&mut self, wait_ms: u64) {
        self.wait_ms = wait_ms;
    }

    /// Makes everything due that waits now.
    pub(super) fn end_waits(&mut self) {
        self.lanes.iter_mut().for_each(|(until_ms, _)| *until_ms = 0);
        self.mixed_until_ms = 0;
    }

    /// Makes the lane of a channel wait for more events. Its first ones were shown at `shown_ms`.
    pub(super) fn push(&mut self, channel: ChannelId, shown_ms: u64) {
        self.lanes.push_back((shown_ms + self.wait_ms, channel));
    }

    /// Takes the next lane that is due.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<ChannelId> {
        if !self.is_due(now_ms) {
            return None;
        }
        self.lanes.pop_front().map(|(_, channel)| channel)
    }

    /// Whether [`pop_due`](Self::pop_due) has a lane.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.lanes.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms)
    }

    /// Makes the mixed lane wait for more batches. Its first one was shown at `shown_ms`.
    pub(super) fn begin_mixed(&mut self, shown_ms: u64) {
        self.mixed_until_ms = shown_ms + self.wait_ms;
    }

    /// Whether the mixed lane is due.
    pub(super) fn is_mixed_due(&self, now_ms: u64) -> bool {
        self.mixed_until_ms <= now_ms
    }

    /// When the next lane is due, in milliseconds since 1970. `has_mixed` says whether the mixed
    /// lane waits too.
    pub(super) fn next_due_ms(&self, has_mixed: bool) -> Option<u64> {
        let lane = self.lanes.front().map(|(until_ms, _)| *until_ms);
        lane.into_iter().chain(has_mixed.then_some(self.mixed_until_ms)).min()
    }
}
