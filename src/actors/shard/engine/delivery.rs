//! The sends of the fan-out: a bounded number in each pass.

use std::sync::Arc;

use super::{
    engine::Engine,
    fan_out::{PlainSlice, SENDS_PER_SLICE},
    unsent::SLOTS_PER_PASS,
};
use crate::{
    actors::{
        batch::Batch,
        payload::Payload,
        shard::{mixed_lane::MixedSend, registry::VACANT},
    },
    core::{CloseReason, ConnectionMsg, Effect, Transport},
    model::{PollReply, Seq},
};

impl Engine {
    /// Queues a batch of the log, to be sent by later calls of [`work`](Self::work).
    pub fn push_batch(&mut self, batch: Arc<Batch>, now_ms: u64) {
        self.now_ms = now_ms;
        self.fan_out.push(batch);
    }

    /// Sets the head of the log. The engine has received all its batches up to that.
    pub fn note_log_head(&mut self, through: Seq) {
        self.fan_out.note_log_head(through);
    }

    /// Whether all queued batches have been handed out to their channels.
    pub(in crate::actors::shard) fn wants_batches(&self) -> bool {
        self.fan_out.wants_batches()
    }

    /// Sets how long events of small channels gather before they are sent; with 0 they do not
    /// gather.
    pub(in crate::actors::shard) fn set_gather_ms(&mut self, gather_ms: u64) {
        let has_gathered = self.fan_out.gather_ms() > 0;
        match gather_ms > 0 {
            true if !has_gathered => _ = self.metrics.shards_gathering.inc(),
            false if has_gathered => _ = self.metrics.shards_gathering.dec(),
            _ => {}
        }
        self.fan_out.set_gather_ms(gather_ms);
    }

    /// Events that gather now are sent by the next calls of [`work`](Self::work).
    pub(in crate::actors::shard) fn end_gathering(&mut self) {
        self.fan_out.end_gathering();
    }

    /// When the next gathering events are sent, in milliseconds since 1970; `None` if none gather.
    pub(in crate::actors::shard) fn gathers_until_ms(&self) -> Option<u64> {
        self.fan_out.gathers_until_ms()
    }

    /// One bounded pass of fan-out; true while there is more to do.
    pub fn work(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        self.work_batches();
        self.fan_out.queue_gathered(now_ms);
        self.work_lanes();
        self.work_mixed();
        self.enforce_unsent_limit();
        self.fan_out.has_work(now_ms) || self.unsent.must_free()
    }

    /// Hands out the runs of batches: the run of a small channel is sent at once, that of a large
    /// channel goes to its lane.
    fn work_batches(&mut self) {
        let mut left = SENDS_PER_SLICE;
        while let Some(run) = self.fan_out.next_small_run(&mut left, self.now_ms) {
            let sent = self.send_slice(&run, &run.payload);
            self.fan_out.end_small_run(&run, sent, &mut self.slots);
        }
    }

    /// Serves the lanes round robin, until the sends of a slice are made.
    fn work_lanes(&mut self) {
        let mut left = SENDS_PER_SLICE;
        while left > 0
            && let Some(slice) = self.fan_out.next_slice(left, self.now_ms)
        {
            left = left.saturating_sub(slice.len().max(1));
            let sent = self.send_slice(&slice, &slice.payload);
            self.fan_out.end_slice(&slice, sent, &mut self.slots, self.now_ms);
        }
    }

    /// Makes the sends of a slice; returns its slots.
    fn send_slice<P>(&mut self, slice: &PlainSlice<P>, payload: &Payload) -> Vec<u32> {
        let slots = self.fan_out.begin_slice(slice);
        let (first, last) = (slice.first, slice.last);
        tracing::trace!(
            channel = payload.events().first().map(|event| event.channel.as_str()),
            first = first.0,
            last = last.0,
            events = payload.events().len(),
            connections = ?self.ids_of(slots.iter().copied()),
            "events are sent to streams of one channel"
        );
        for &index in slots.iter().filter(|&&index| index != VACANT) {
            self.guarded(index, |engine| engine.offer(index, payload, None, first, last));
        }
        self.tally.flush(&self.metrics);
        slots
    }

    /// One slice of the mixed lane.
    fn work_mixed(&mut self) {
        let round = self.fan_out.take_mixed_round(&self.slots, self.now_ms);
        let Some(mut round) = round else { return };
        let (first, last) = round.range();
        tracing::trace!(
            first = first.0,
            last = last.0,
            connections = ?self.ids_of(round.next_slots(SENDS_PER_SLICE)),
            "events are sent to polls, and to streams that are not of one whole channel"
        );
        for _ in 0..SENDS_PER_SLICE {
            let Some(due) = round.next_due() else { break };
            let index = due.slot;
            let Some(set) = self.fan_out.due_set(index) else { continue };
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let shape = Arc::clone(slot.subscriber.shape(self.fan_out.plain_shape()));
            let send = round.send(set, due, &shape);
            if !round.continue_later(due, &send) {
                self.fan_out.clear_set(index);
            }
            let (first, last) = (send.first, send.last);
            let wants_reply = send.reply.is_none() && shape.transport() == Transport::Poll;
            let mut reply = None;
            self.guarded(index, |engine| {
                engine.offer(index, &send.payload, Some((&send, &mut reply)), first, last);
            });
            if wants_reply && let Some(reply) = reply {
                round.keep_reply(set, due, &shape, reply);
            }
        }
        self.tally.flush(&self.metrics);
        if !self.fan_out.return_mixed_round(round) {
            self.answers.clear();
        }
    }

    /// The ids of the connections in these slots.
    fn ids_of(&self, slots: impl Iterator<Item = u32>) -> Vec<u64> {
        let slots = slots.filter_map(|index| self.slots.get(index as usize));
        slots.map(|slot| slot.subscriber.id()).collect()
    }

    /// Closes the slowest connections while the hub holds more unsent bytes than the ceiling.
    /// Examines a bounded number of slots, and continues in the next pass. Called between rounds:
    /// during a round only the connection being served may end.
    fn enforce_unsent_limit(&mut self) {
        let mut left = SLOTS_PER_PASS;
        while self.unsent.must_free() {
            match self.unsent.slowest(&self.slots, &mut left) {
                Some(index) => self.finish(index, CloseReason::UnsentCeiling),
                None if left == 0 => return,
                None => {}
            }
        }
        self.unsent.forgive();
    }

    /// Offers a round's send to a connection.
    fn offer(
        &mut self,
        index: u32,
        payload: &Payload,
        poll: Option<(&MixedSend, &mut Option<Arc<PollReply>>)>,
        first: Seq,
        last: Seq,
    ) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if payload.events().is_empty() {
            // No event of the round passes its type filter.
            let from = slot.connection.cursor();
            if from < first && !slot.connection.is_behind() {
                slot.connection.advance_idle(last);
                slot.subscriber.note_passed(from, last);
            }
            return;
        }
        let counted_through = slot.connection.counted_through();
        let (events, bytes) = match counted_through < first {
            true => (payload.events().len() as u32, payload.len() as u64),
            false => payload.after(counted_through),
        };
        let round = ConnectionMsg::Round { first, last, events, bytes };
        let effect = slot.connection.handle(round, self.now_ms, &self.limits);
        match effect {
            Effect::Send => match poll {
                Some((send, reply)) if slot.connection.transport() == Transport::Poll => {
                    self.answer_round(index, send, reply, last);
                }
                _ => self.send(index, payload, last, None),
            },
            effect => self.perform(index, effect),
        }
    }
}
