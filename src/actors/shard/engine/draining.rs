//! The drain: streams end spread over a window, each once its client has been sent everything.

use super::{drain::Drain, engine::Engine};
use crate::core::ConnectionMsg;

impl Engine {
    /// Ends every connection at a random time within `window_ms`, each with its own reconnection
    /// time. That includes connections attached later. With few connections the spread is shorter
    /// than the window. A stream that has not been sent everything by its time ends as soon as it
    /// has, or with the window. The times of the connections that there are by now are set by
    /// [`drain_some`](Self::drain_some).
    pub fn drain(&mut self, window_ms: u64, now_ms: u64) {
        self.now_ms = now_ms;
        let spread_ms = window_ms.min(self.slots.len() as u64 * SPREAD_MS);
        self.drain = Some(Drain {
            until_ms: now_ms + window_ms,
            spread_until_ms: now_ms + spread_ms,
            head: self.backend.head(),
            set_to: 0,
        });
    }

    /// Sets the end times of a bounded number of connections; false when all have one.
    pub fn drain_some(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        let Some(drain) = &mut self.drain else { return false };
        let from = drain.set_to;
        drain.set_to = self.slots.capacity().min(from + SLOTS_AT_ONCE);
        let to = drain.set_to;
        for index in from..to {
            // One that has come since the drain began has its end time already.
            if self.slots.get(index).is_some_and(|slot| !slot.connection.is_draining()) {
                self.drain_slot(index as u32);
            }
        }
        to < self.slots.capacity()
    }

    /// Sets the end time of a connection if a drain is under way.
    pub(super) fn drain_slot(&mut self, index: u32) {
        let Some(drain) = &self.drain else { return };
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let at_ms = self.random.u64(self.now_ms..=drain.spread_until_ms.max(self.now_ms));
        slot.connection.handle(ConnectionMsg::Drain { at_ms }, self.now_ms, &self.limits);
        self.schedule(index);
    }

    /// Postpones the end of a connection that has not been sent everything yet, but not past the
    /// expiry of its token.
    pub(super) fn put_off_drain(&mut self, index: u32) {
        let Some(drain) = self.drain.as_ref().filter(|drain| self.now_ms < drain.until_ms) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let is_due = slot.connection.ends_ms().is_some_and(|due_ms| due_ms <= self.now_ms);
        let has_token = self.extras.lease(index).is_none_or(|lease| lease.until_ms > self.now_ms);
        let has_everything = !slot.connection.is_behind()
            && self.fan_out.is_idle_for(&slot.subscriber)
            && self.fan_out.wants_batches()
            && self.fan_out.head() >= drain.head;
        if is_due && has_token && !has_everything {
            let at_ms = drain.until_ms.min(self.now_ms + PUT_OFF_MS);
            slot.connection.handle(ConnectionMsg::Drain { at_ms }, self.now_ms, &self.limits);
        }
    }
}

/// Slots whose connections are given their end times in one step of the shard.
const SLOTS_AT_ONCE: usize = if cfg!(test) { 4 } else { 1_024 };
/// The average time between two ends on a shard, if the window is long enough.
const SPREAD_MS: u64 = 20;
/// How long the end of a connection is postponed at a time.
const PUT_OFF_MS: u64 = 50;
