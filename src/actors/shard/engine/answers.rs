//! The answers of long-polls.

use std::sync::Arc;

use bytes::Bytes;

use super::{engine::Engine, reading::READ_BYTES_MAX, sending::reason_of};
use crate::{
    actors::{payload::Payload, shard::mixed_lane::MixedSend, subscriber::Form},
    backend::{Piece, SeqRange, StartRequest},
    core::ConnectionMsg,
    model::{Gap, PollAnswer, PollReply, Seq, Start},
};

impl Engine {
    /// Answers a poll from a round; polls with the same answer share its bytes.
    pub(super) fn answer_round(
        &mut self,
        index: u32,
        send: &MixedSend,
        reply: &mut Option<Arc<PollReply>>,
        last: Seq,
    ) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Form::Poll { encoding, limit } = slot.subscriber.shape(self.fan_out.plain_shape()).form
        else {
            return;
        };
        let events = send.payload.events();
        let within = &events[..events.len().min(limit as usize)];
        let through = if within.len() < events.len() {
            within.last().map_or(last, |event| event.seq)
        } else {
            last
        };
        let position = self.epoch.at(through);
        // More of the round may be due to it, and further rounds.
        self.poll_times.answered(through >= self.backend.head(), self.now_ms);
        let encoded = match &send.reply {
            Some(encoded) => Arc::clone(encoded),
            None => {
                let answer =
                    PollAnswer { events: within.to_vec(), position, truncated: false, gap: None };
                let encoded = Arc::new(encoding.encode(&answer));
                *reply = Some(Arc::clone(&encoded));
                encoded
            }
        };
        self.tally.count(within.len());
        if self.drain.is_some() {
            slot.subscriber.close_after_answer();
        }
        let Some(ticket) = slot.subscriber.ticket() else { return self.give(index, &encoded) };
        let response = self.answers.render(&encoded, ticket, &mut self.unsent);
        self.respond(index, response, position.seq);
    }

    /// Answers a poll.
    pub(super) fn answer(&mut self, index: u32, answer: PollAnswer) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Form::Poll { encoding, .. } = slot.subscriber.shape(self.fan_out.plain_shape()).form
        else {
            return;
        };
        let reply = encoding.encode(&answer);
        let (id, through) = (slot.subscriber.id(), reply.position.seq);
        tracing::trace!(id, through = through.0, events = answer.events.len(), "poll is answered");
        let is_complete = through >= self.backend.head();
        self.poll_times.answered(is_complete, self.now_ms);
        self.tally.count(answer.events.len());
        if self.drain.is_some() {
            slot.subscriber.close_after_answer();
        }
        let Some(ticket) = slot.subscriber.ticket() else { return self.give(index, &reply) };
        let response = (ticket.render)(&reply, ticket);
        let response = self.unsent.count(response);
        self.respond(index, response, reply.position.seq);
    }

    /// Answers a poll whose start has a gap, at once, with the events that are retained.
    pub(super) fn answer_gap(&mut self, index: u32, gap: Gap) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let Form::Poll { limit, .. } = slot.subscriber.shape(self.fan_out.plain_shape()).form
        else {
            return;
        };
        let range = SeqRange {
            after: gap.oldest.seq,
            through: self.backend.head().max(gap.oldest.seq),
            events_max: limit as usize,
            bytes_max: READ_BYTES_MAX,
        };
        let piece = self.read_memory(index, &range);
        // Events evicted meanwhile will be a gap in the next poll, which also gets those on disk.
        let piece = piece.unwrap_or(Piece { through: range.after, ..Piece::default() });
        let Some(slot) = self.slots.get(index as usize) else { return };
        let payload = Payload::new(piece.events, slot.subscriber.shape(self.fan_out.plain_shape()));
        let position = self.epoch.at(piece.through);
        self.answer(
            index,
            PollAnswer {
                events: payload.events().to_vec(),
                position,
                truncated: false,
                gap: Some(gap),
            },
        );
    }

    /// Answers a poll whose events were evicted between its start and its first read.
    pub(super) fn answer_fallen_off(&mut self, index: u32, after: Seq) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let head = self.backend.head();
        let start = Start::At(self.epoch.at(after));
        let (patterns, named) = (slot.subscriber.patterns(), slot.subscriber.named());
        let resume = self.backend.resume(patterns, named, StartRequest::at(&start), head);
        slot.reader = Some(Box::new(resume.reader));
        match resume.gap {
            Some(gap) => self.answer_gap(index, gap),
            None => self.step(index, ConnectionMsg::Writable),
        }
    }

    /// Sends an answer to a peer that receives it as a value.
    fn give(&mut self, index: u32, reply: &PollReply) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.peer.answer(reply.clone());
        self.step(index, ConnectionMsg::Answered);
    }

    /// Sends an answer as bytes.
    fn respond(&mut self, index: u32, response: Bytes, through: Seq) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let mut taken = 0;
        let outcome = slot.peer.write_all(&response, &mut taken);
        slot.sent_bytes += taken as u64;
        let msg = match outcome {
            Err(error) => return self.finish(index, reason_of(&error)),
            Ok(()) if taken == response.len() => ConnectionMsg::Sent { through, sent: (0, 0) },
            Ok(()) => ConnectionMsg::Blocked {
                cursor: through,
                rest: response.slice(taken..),
                progressed: true,
                due: (0, 0),
                sent: (0, 0),
            },
        };
        slot.connection.handle(msg, self.now_ms, &self.limits);
        self.step(index, ConnectionMsg::Answered);
        self.schedule(index);
    }
}
