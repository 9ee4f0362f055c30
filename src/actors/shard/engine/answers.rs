//! The answers of long-polls.

use std::{ptr, sync::Arc};

use bytes::Bytes;

use super::{Engine, READ_BYTES_MAX};
use crate::{
    actors::{
        payload::Payload,
        shard::rounds::MixedSend,
        subscriber::{Form, PollTicket},
    },
    backend::{Piece, SeqRange},
    core::ConnectionMsg,
    model::{Gap, PollAnswer, PollReply, Seq, Start},
};

/// The answer that was written last, for the others of its round.
#[derive(Debug)]
pub(super) struct LastAnswer {
    reply: Arc<PollReply>,
    header_lines: Bytes,
    keep_alive: bool,
    render: fn(&PollReply, &PollTicket) -> Bytes,
    response: Bytes,
}

impl LastAnswer {
    fn fits(&self, reply: &Arc<PollReply>, ticket: &PollTicket) -> bool {
        Arc::ptr_eq(&self.reply, reply)
            && self.keep_alive == ticket.keep_alive
            && self.header_lines == ticket.header_lines
            && ptr::fn_addr_eq(self.render, ticket.render)
    }
}

impl Engine {
    /// Answers a poll from a round, with the bytes that all polls get that wait for the same.
    pub(super) fn answer_round(
        &mut self,
        index: u32,
        send: &MixedSend,
        reply: &mut Option<Arc<PollReply>>,
        last: Seq,
    ) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Form::Poll { encoding, limit } = slot.subscriber.shape(&self.plain_shape).form else {
            return;
        };
        let events = send.payload.events();
        self.tally.deliveries += events.len().min(limit as usize) as u64;
        let within = &events[..events.len().min(limit as usize)];
        let through = if within.len() < events.len() {
            within.last().map_or(last, |event| event.seq)
        } else {
            last
        };
        let position = self.backend.position(through);
        let encoded = match &send.reply {
            Some(encoded) => Arc::clone(encoded),
            None => {
                let answer = PollAnswer { events: within.to_vec(), position, gap: None };
                let encoded = Arc::new(encoding.encode(&answer));
                *reply = Some(Arc::clone(&encoded));
                encoded
            }
        };
        let Some(ticket) = slot.subscriber.ticket() else { return self.give(index, &encoded) };
        // Polls that wait for the same mostly came by the same route, so even the heads of their
        // answers are equal.
        let response = match &self.last_answer {
            Some(last) if last.fits(&encoded, ticket) => last.response.clone(),
            _ => {
                let response = (ticket.render)(&encoded, ticket);
                let PollTicket { ref header_lines, keep_alive, render } = *ticket;
                let header_lines = header_lines.clone();
                let response = self.count_unsent(response);
                self.last_answer = (response.len() <= SHARED_BYTES_MAX).then(|| LastAnswer {
                    reply: encoded,
                    header_lines,
                    keep_alive,
                    render,
                    response: response.clone(),
                });
                response
            }
        };
        self.respond(index, response, position.seq);
    }

    /// Answers a poll.
    pub(super) fn answer(&mut self, index: u32, answer: PollAnswer) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let Form::Poll { encoding, .. } = slot.subscriber.shape(&self.plain_shape).form else {
            return;
        };
        let reply = encoding.encode(&answer);
        let Some(ticket) = slot.subscriber.ticket() else { return self.give(index, &reply) };
        let response = (ticket.render)(&reply, ticket);
        let response = self.count_unsent(response);
        self.respond(index, response, reply.position.seq);
    }

    /// Answers a poll whose start has a gap: at once, with what is there.
    pub(super) fn answer_gap(&mut self, index: u32, gap: Gap) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let Form::Poll { limit, .. } = slot.subscriber.shape(&self.plain_shape).form else {
            return;
        };
        let range = SeqRange {
            after: gap.oldest.seq,
            through: self.backend.head().max(gap.oldest.seq),
            events_max: limit as usize,
            bytes_max: READ_BYTES_MAX,
        };
        let piece = self.read_piece(index, &range);
        // What has gone since, the next poll is told of.
        let piece = piece.unwrap_or(Piece { through: range.after, ..Piece::default() });
        let Some(slot) = self.slots.get(index as usize) else { return };
        let payload = Payload::new(piece.events, slot.subscriber.shape(&self.plain_shape));
        let position = self.backend.position(piece.through);
        self.answer(
            index,
            PollAnswer { events: payload.events().to_vec(), position, gap: Some(gap) },
        );
    }

    /// History moved past a poll between its start and its first read.
    pub(super) fn answer_fallen_off(&mut self, index: u32, after: Seq) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let head = self.backend.head();
        let start = Start::At(self.backend.position(after));
        let (patterns, named) = (slot.subscriber.patterns(), slot.subscriber.named());
        let resume = self.backend.resume(patterns, named, &start, head);
        slot.reader = Some(Box::new(resume.reader));
        match resume.gap {
            Some(gap) => self.answer_gap(index, gap),
            None => self.step(index, ConnectionMsg::Writable),
        }
    }

    /// Gives an answer to a peer that takes it as a value.
    fn give(&mut self, index: u32, reply: &PollReply) {
        self.tally.sends += 1;
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.peer.answer(reply.clone());
        self.step(index, ConnectionMsg::Answered);
    }

    /// Sends an answer as bytes.
    fn respond(&mut self, index: u32, rest: Bytes, through: Seq) {
        self.tally.sends += 1;
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let blocked = ConnectionMsg::Blocked {
            cursor: through,
            rest,
            progressed: true,
            due: (0, 0),
            sent: (0, 0),
        };
        slot.connection.handle(blocked, self.now_ms, &self.limits);
        self.step(index, ConnectionMsg::Answered);
        self.schedule(index);
    }
}

/// Bytes of an answer that its clients share. Of a larger one each has its own, so that the ceiling
/// on unsent bytes gets them back by ending one client.
const SHARED_BYTES_MAX: usize = 8 * 1024;
