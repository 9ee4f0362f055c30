//! Serves slots whose sockets are ready, that are on the ready list, or whose deadline has passed;
//! a bounded number in each call.

use super::{engine::Engine, schedule::Schedule};
use crate::{
    actors::{peer::Input, shard::sockets::Ready, slot_key::SlotKey},
    core::{CloseReason, ConnectionMsg},
};

impl Engine {
    /// Serves slots of the ready list, at most `slots_max`; true while there are more.
    pub fn serve_ready(&mut self, slots_max: usize, now_ms: u64) -> bool {
        self.serve_ready_within(slots_max, now_ms, || false)
    }

    /// As [`serve_ready`](Self::serve_ready), for at least one slot, until the time is up. The rest
    /// is served before slots that become ready meanwhile.
    pub(in crate::actors::shard) fn serve_ready_within(
        &mut self,
        slots_max: usize,
        now_ms: u64,
        time_is_up: impl Fn() -> bool,
    ) -> bool {
        self.now_ms = now_ms;
        self.ready.begin_pass();
        for served in 0..slots_max {
            if served > 0 && self.serving_cost.is_clock_due() && time_is_up() {
                break;
            }
            let Some(key) = self.ready.next() else { break };
            self.serving_cost.add_connection();
            let Some(slot) = self.slots.get_mut(key.index as usize) else { continue };
            if slot.generation != key.generation {
                continue;
            }
            slot.is_queued = false;
            slot.peer.rearm();
            self.guarded(key.index, |engine| {
                engine.check_input_unless_reported(key.index);
                engine.step(key.index, ConnectionMsg::Writable);
            });
        }
        self.ready.has_more()
    }

    /// Serves sockets that the poller has reported, at least one, until the time is up; returns how
    /// many.
    pub(in crate::actors::shard) fn serve_sockets(
        &mut self,
        ready: &[Ready],
        now_ms: u64,
        time_is_up: impl Fn() -> bool,
    ) -> usize {
        self.now_ms = now_ms;
        for (served, ready) in ready.iter().enumerate() {
            if served > 0 && self.serving_cost.is_clock_due() && time_is_up() {
                return served;
            }
            self.serving_cost.add_connection();
            let index = SlotKey::index_of(ready.token);
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let is_behind = slot.connection.is_behind();
            if slot.key(index).token() != ready.token || !(ready.input || is_behind) {
                continue;
            }
            self.guarded(index, |engine| {
                if ready.input {
                    engine.check_input(index);
                }
                if ready.room {
                    engine.step(index, ConnectionMsg::Writable);
                }
            });
        }
        ready.len()
    }

    /// Handles deadlines and heartbeats, a bounded number at a time; true while more are due.
    pub fn tick(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        self.schedule.advance(now_ms);
        for _ in 0..DEADLINES_PER_PASS {
            let Some(index) = self.schedule.next_overdue() else { break };
            // The entry is stale if the slot was reused or its deadline has moved.
            let Some(slot) = self.slots.get_mut(index as usize) else { continue };
            if !Schedule::is_due(slot, now_ms) {
                continue;
            }
            self.guarded(index, |engine| {
                engine.put_off_drain(index);
                engine.step(index, ConnectionMsg::Tick);
            });
            self.schedule(index);
        }
        self.census.advance(&self.slots, now_ms);
        self.fan_out.prune(self.backend.registry().directory().len());
        self.schedule.has_overdue()
    }

    pub(super) fn check_input_unless_reported(&mut self, index: u32) {
        if self.slots.get(index as usize).is_some_and(|slot| slot.peer.wakes_for_input()) {
            self.check_input(index);
        }
    }

    pub(super) fn check_input(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        match slot.peer.poll_input() {
            Input::Quiet => {}
            Input::Closed => self.finish(index, CloseReason::PeerClosed),
            Input::TimedOut => self.finish(index, CloseReason::TimedOut),
            Input::TooMuch => self.finish(index, CloseReason::UnexpectedInput),
        }
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Deadlines and heartbeats in one pass.
const DEADLINES_PER_PASS: usize = if cfg!(test) { 3 } else { 256 };
