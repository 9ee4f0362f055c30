//! Writes to a connection's peer, and their results.

use std::sync::Arc;

use bytes::Bytes;

use super::engine::Engine;
use crate::{
    actors::payload::Payload,
    core::{CloseReason, ConnectionMsg, Effect},
    model::{Event, EventKind, Position, Seq},
};

impl Engine {
    /// Sends a payload. `caught_up` is set when history had nothing after it up to that seq.
    pub(super) fn send(
        &mut self,
        index: u32,
        payload: &Payload,
        through: Seq,
        caught_up: Option<Seq>,
    ) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let mut taken = 0;
        let outcome = slot.peer.write_all(payload.bytes(), &mut taken);
        let replay_through = slot.connection.replay_through();
        let complete = taken == payload.bytes().len();
        let begun = if complete {
            payload.events().len()
        } else {
            match outcome {
                Err(_) => return self.finish(index, CloseReason::PeerClosed),
                Ok(()) => payload.split(taken).begun,
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
            self.metrics.fell_behind.inc();
            // A socket that would block gives its replay permit to one that does not.
            self.extras.end_replay(index);
            let cursor = match begun {
                0 => slot.connection.cursor(),
                _ => payload.events()[begun - 1].seq,
            };
            let counted = payload.after(replay_through);
            let due = payload.after(cursor.max(replay_through));
            let rest = self.unsent.count(payload.split(taken).rest);
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

    /// Notes which of a connection's named channels were closed by the events just sent.
    fn note_closed(&mut self, index: u32, events: &[Arc<Event>]) {
        let slot = &mut self.slots[index as usize];
        for event in events.iter().filter(|event| event.kind == EventKind::Closed) {
            if slot.subscriber.named().any(|entry| *entry.name() == event.channel) {
                let msg = ConnectionMsg::NamedChannelClosed;
                slot.connection.handle(msg, self.now_ms, &self.limits);
            }
        }
    }

    pub(super) fn send_rest(&mut self, index: u32) -> Effect {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Effect::None };
        let mut taken = 0;
        let rest = slot.connection.rest();
        match slot.peer.write_all(&rest, &mut taken) {
            Err(_) => Effect::End(CloseReason::PeerClosed),
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

    /// The furthest position that a connection has everything before. A live one has all that
    /// this shard has been given, unless its lane is still at it.
    pub(super) fn safe_position(&mut self, index: u32) -> Position {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return self.backend.position(self.fan_out.head());
        };
        if self.fan_out.is_idle_for(&slot.subscriber) {
            slot.connection.advance_idle(self.fan_out.head());
        }
        self.backend.position(slot.connection.cursor())
    }

    pub(super) fn heartbeat(&mut self, index: u32) {
        let position = self.safe_position(index);
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(framing) = slot.subscriber.framing() else { return };
        let mut block = Vec::with_capacity(HEARTBEAT_BYTES);
        framing.heartbeat(position, &mut block);
        let block = Bytes::from(block);
        let mut taken = 0;
        let msg = match slot.peer.write_all(&block, &mut taken) {
            Err(_) => return self.finish(index, CloseReason::PeerClosed),
            Ok(()) if taken == block.len() => {
                ConnectionMsg::Sent { through: position.seq, sent: (0, 0) }
            }
            Ok(()) => ConnectionMsg::Blocked {
                cursor: position.seq,
                rest: block.slice(taken..),
                progressed: taken > 0,
                due: (0, 0),
                sent: (0, 0),
            },
        };
        self.step(index, msg);
    }
}

/// Room for a heartbeat.
const HEARTBEAT_BYTES: usize = 48;
