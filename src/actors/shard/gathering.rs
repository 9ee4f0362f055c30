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
    /// In the order in which they come to wait. After a change of `wait_ms` a lane may wait longer than
    /// its own time, until those before it are through.
    lanes: VecDeque<(u64, ChannelId)>,
    /// Until when the batches of the mixed lane wait; of no meaning while it has none.
    mixed_until_ms: u64,
}

impl Gathering {
    /// How long events wait for more, in milliseconds; 0 if they do not.
    #[inline]
    pub(super) fn wait_ms(&self) -> u64 {
        self.wait_ms
    }

    /// Sets how long events wait for more. It does not hold for those that wait already.
    pub(super) fn set_wait_ms(&mut self, wait_ms: u64) {
        self.wait_ms = wait_ms;
    }

    /// What waits now has waited long enough.
    pub(super) fn end_waits(&mut self) {
        self.lanes.iter_mut().for_each(|(until_ms, _)| *until_ms = 0);
        self.mixed_until_ms = 0;
    }

    /// The lane of a channel waits for more than the events that were shown at `shown_ms`.
    pub(super) fn push(&mut self, channel: ChannelId, shown_ms: u64) {
        self.lanes.push_back((shown_ms + self.wait_ms, channel));
    }

    /// The next lane that has waited long enough.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<ChannelId> {
        if !self.is_due(now_ms) {
            return None;
        }
        self.lanes.pop_front().map(|(_, channel)| channel)
    }

    /// Whether [`pop_due`](Self::pop_due) has one.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.lanes.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms)
    }

    /// The mixed lane waits for more than its first batch, which was shown at `shown_ms`.
    pub(super) fn begin_mixed(&mut self, shown_ms: u64) {
        self.mixed_until_ms = shown_ms + self.wait_ms;
    }

    /// Whether the mixed lane has waited long enough.
    pub(super) fn is_mixed_due(&self, now_ms: u64) -> bool {
        self.mixed_until_ms <= now_ms
    }

    /// When the next of them has waited long enough, in milliseconds since 1970; `has_mixed` says whether
    /// the mixed lane is among them.
    pub(super) fn next_due_ms(&self, has_mixed: bool) -> Option<u64> {
        let lane = self.lanes.front().map(|(until_ms, _)| *until_ms);
        lane.into_iter().chain(has_mixed.then_some(self.mixed_until_ms)).min()
    }
}
