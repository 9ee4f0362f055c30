//! Writes to a connection's peer, and passes the results to its state machine.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::engine::Engine;
use crate::{
    actors::{payload::Payload, peer::Input},
    core::{CloseReason, ConnectionMsg, Effect},
    model::{Event, EventKind, Position, Seq},
};

impl Engine {
    /// Sends a payload. `caught_up` is the seq up to which history has nothing after the payload.
    pub(super) fn send(
        &mut self,
        index: u32,
        payload: &Payload,
        through: Seq,
        caught_up: Option<Seq>,
    ) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let mut taken = 0;
        let coding = slot.coding;
        let bytes = payload.bytes(coding);
        let outcome = slot.peer.write_all(bytes, &mut taken);
        slot.sent_bytes += taken as u64;
        let replay_through = slot.connection.replay_through();
        let complete = taken == bytes.len();
        let begun = if complete {
            payload.events().len()
        } else {
            match outcome {
                Err(error) => return self.finish(index, reason_of(&error)),
                Ok(()) => payload.split(coding, taken).begun,
            }
        };
        if payload.closes() {
            self.note_closed(index, &payload.events()[..begun]);
        }
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let effect = if complete {
            self.tally.count(begun);
            let sent = ConnectionMsg::Sent { through, sent: payload.after(replay_through) };
            let effect = slot.connection.handle(sent, self.now_ms, &self.limits);
            match caught_up {
                Some(head) if effect == Effect::Read(slot.connection.cursor()) => {
                    let msg = ConnectionMsg::CaughtUp(head);
                    slot.connection.handle(msg, self.now_ms, &self.limits)
                }
                _ => effect,
            }
        } else {
            if !slot.connection.is_behind() {
                self.metrics.fell_behind.inc();
                let id = slot.subscriber.id();
                tracing::trace!(id, through = through.0, "connection fell behind");
            }
            // A socket that would block gives its replay permit to one that does not.
            self.extras.end_replay(index);
            let cursor = match begun {
                0 => slot.connection.cursor(),
                _ => payload.events()[begun - 1].seq,
            };
            let counted = payload.after(replay_through);
            let due = payload.after(cursor.max(replay_through));
            let rest = self.unsent.count(payload.split(coding, taken).rest);
            let Some(slot) = self.slots.get_mut(index as usize) else { return };
            let blocked = ConnectionMsg::Blocked {
                cursor,
                rest,
                progressed: taken > 0,
                due,
                sent: (counted.0 - due.0, counted.1 - due.1),
            };
            self.tally.count(begun);
            slot.connection.handle(blocked, self.now_ms, &self.limits)
        };
        self.perform(index, effect);
    }

    /// Notes whether named channels of a connection were closed by the events just sent.
    #[cold]
    fn note_closed(&mut self, index: u32, events: &[Arc<Event>]) {
        let slot = &mut self.slots[index as usize];
        let named = |event: &Event| {
            event.kind == EventKind::Closed
                && slot.subscriber.named().any(|entry| *entry.name() == event.channel)
        };
        // They are counted anew: a channel can be closed, opened again and closed.
        if let Some(last) = events.last().filter(|_| events.iter().any(|event| named(event))) {
            let open_names = slot.subscriber.open_names(last.seq);
            let msg = ConnectionMsg::NamedChannelClosed { open_names };
            slot.connection.handle(msg, self.now_ms, &self.limits);
        }
    }

    pub(super) fn send_rest(&mut self, index: u32) -> Effect {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Effect::None };
        let mut taken = 0;
        let rest = slot.connection.rest();
        let outcome = slot.peer.write_all(&rest, &mut taken);
        slot.sent_bytes += taken as u64;
        match outcome {
            Err(error) => Effect::End(reason_of(&error)),
            Ok(()) => {
                if taken < rest.len() {
                    self.extras.end_replay(index);
                }
                drop(rest);
                let msg = ConnectionMsg::RestTaken(taken);
                slot.connection.handle(msg, self.now_ms, &self.limits)
            }
        }
    }

    /// The latest position up to which a connection has everything. For a LIVE one that is the head
    /// of this shard, unless its lane has work.
    pub(super) fn safe_position(&mut self, index: u32) -> Position {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return self.epoch.at(self.fan_out.head());
        };
        if self.fan_out.is_idle_for(&slot.subscriber) {
            slot.connection.advance_idle(self.fan_out.head());
        }
        self.epoch.at(slot.connection.cursor())
    }

    /// Sends a heartbeat: a comment, or a block with an id if the client's last id is old or far
    /// behind. Otherwise the client might later resume from a position that history no longer
    /// reaches back to.
    pub(super) fn heartbeat(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(framing) = slot.subscriber.framing() else { return };
        slot.heartbeats = match slot.connection.is_after_heartbeat() {
            true => slot.heartbeats.saturating_add(1),
            false => 1,
        };
        let cursor = slot.connection.cursor();
        let heartbeats_max = (ID_AGE_MAX_S / self.limits.heartbeat_s.max(1)).clamp(1, 255);
        // A connection that waits for the disk is not caught up, so its heartbeat keeps its own
        // cursor.
        let is_idle = !slot.connection.is_behind() && self.fan_out.is_idle_for(&slot.subscriber);
        let through = if is_idle { cursor.max(self.fan_out.head()) } else { cursor };
        // Its own cursor is not known either while its start is searched.
        let searches = slot.reader.as_ref().is_some_and(|reader| reader.is_searching_start());
        let passed = through.0 - slot.subscriber.last_id(cursor).0;
        let is_due = passed > ID_EVENTS_MAX || u32::from(slot.heartbeats) >= heartbeats_max;
        let has_id = is_due && !searches;
        let through = if has_id { through } else { cursor };
        let position = has_id.then(|| self.epoch.at(through));
        let mut block = Vec::with_capacity(HEARTBEAT_BYTES);
        slot.coding.wrap(&mut block, |out| framing.heartbeat(position, out));
        let block = Bytes::from(block);
        let mut taken = 0;
        let outcome = slot.peer.write_all(&block, &mut taken);
        slot.sent_bytes += taken as u64;
        let msg = match outcome {
            Err(error) => return self.finish(index, reason_of(&error)),
            Ok(()) if taken == block.len() && has_id => {
                ConnectionMsg::Sent { through, sent: (0, 0) }
            }
            Ok(()) if taken == block.len() => ConnectionMsg::HeartbeatSent,
            Ok(()) => ConnectionMsg::Blocked {
                cursor: through,
                rest: block.slice(taken..),
                progressed: taken > 0,
                due: (0, 0),
                sent: (0, 0),
            },
        };
        self.step(index, msg);
    }
}

/// Why a connection ends whose write failed.
pub(super) fn reason_of(error: &io::Error) -> CloseReason {
    match Input::of_error(error) {
        Input::TimedOut => CloseReason::TimedOut,
        _ => CloseReason::PeerClosed,
    }
}

/// A heartbeat has an id if the client's last id is this many events behind or this many seconds
/// old. It is rare, since some clients take an `id:` without data for a message.
const ID_EVENTS_MAX: u64 = 4_096;
const ID_AGE_MAX_S: u32 = 300;
/// Initial capacity for a heartbeat, in bytes.
const HEARTBEAT_BYTES: usize = 64;
