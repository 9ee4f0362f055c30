//! Batches of the log become rounds, and rounds sends: a bounded slice at a time.

use std::sync::Arc;

use super::{Engine, SENDS_PER_SLICE};
use crate::{
    actors::{
        batch::Batch,
        payload::Payload,
        shard::{
            registry::VACANT,
            rounds::{Lane, MixedSend, PlainRound},
            sets::ChannelSets,
        },
    },
    backend::ChannelId,
    core::{ConnectionMsg, Effect, Transport},
    model::{PollReply, Seq},
};

/// A batch whose runs are being handed out.
#[derive(Debug)]
pub(super) struct BatchInProgress {
    batch: Arc<Batch>,
    /// The next run.
    next: usize,
    /// Whether a connection of the mixed lane receives any run so far.
    mixed: bool,
}

impl Engine {
    /// Takes a batch of the log. It is sent in the [`work`](Self::work) that follows.
    pub fn push_batch(&mut self, batch: Arc<Batch>, now_ms: u64) {
        self.now_ms = now_ms;
        self.batches.push_back(BatchInProgress { batch, next: 0, mixed: false });
    }

    /// Tells it how far the log is. It has been given all batches up to there that concern it.
    pub fn note_log_head(&mut self, through: Seq) {
        self.log_head = through;
        if self.batches.is_empty() {
            self.head = self.head.max(through);
        }
    }

    /// Whether all batches it was given have been handed out to their channels.
    pub(in crate::actors::shard) fn wants_batches(&self) -> bool {
        self.batches.is_empty()
    }

    /// One bounded pass of fan-out; true while there is more to do.
    pub fn work(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        self.distribute();
        self.work_lanes();
        self.work_mixed();
        self.enforce_unsent_limit();
        self.has_rounds()
    }

    /// Whether there are batches to hand out or rounds to go on with.
    pub(super) fn has_rounds(&self) -> bool {
        !self.batches.is_empty()
            || !self.lane_queue.is_empty()
            || self.mixed.round.is_some()
            || !self.mixed.waiting.is_empty()
    }

    /// Hands the runs of batches out: a small channel's is sent at once, a larger one's goes to
    /// its lane.
    fn distribute(&mut self) {
        let mut left = SENDS_PER_SLICE;
        while let Some(mut current) = self.batches.pop_front() {
            while let Some(run) = current.batch.runs().get(current.next) {
                if left == 0 {
                    self.batches.push_front(current);
                    return;
                }
                let index = current.next;
                current.next += 1;
                left -= 1;
                let Some(subscribers) = self.registry.look_up(&run.entry) else { continue };
                current.mixed |= subscribers.has_mixed();
                let plain_count = subscribers.plain_len();
                let channel = run.entry.id();
                if plain_count == 0 {
                    continue;
                }
                if plain_count <= SENDS_PER_SLICE && !self.lanes.contains_key(&channel) {
                    self.send_run(&current.batch, index, plain_count);
                    left = left.saturating_sub(plain_count);
                } else {
                    let lane = self.lanes.entry(channel).or_default();
                    if lane.round.is_none() && lane.waiting.is_empty() {
                        self.lane_queue.push_back(channel);
                    }
                    lane.waiting.push_back((Arc::clone(&current.batch), index));
                }
            }
            self.head = current.batch.last();
            if current.mixed {
                self.mixed.waiting.push_back(current.batch);
            }
        }
        self.head = self.head.max(self.log_head);
    }

    /// The lanes, round robin, until the sends of a slice are made.
    fn work_lanes(&mut self) {
        let mut left = SENDS_PER_SLICE;
        while left > 0
            && let Some(channel) = self.lane_queue.pop_front()
        {
            let (sent, more) = self.work_lane(channel, left);
            left = left.saturating_sub(sent.max(1));
            if more {
                self.lane_queue.push_back(channel);
            }
        }
    }

    /// The run of a small channel, to each of its plain streams at once.
    fn send_run(&mut self, batch: &Arc<Batch>, run: usize, plain_count: usize) {
        let run = &batch.runs()[run];
        let payload = Payload::new(run.events.clone(), &self.plain_shape);
        let channel = run.entry.id();
        self.send_slice(channel, 0, plain_count, &payload, batch.first(), batch.last());
        self.compact(channel);
    }

    fn send_slice(
        &mut self,
        channel: ChannelId,
        from: usize,
        to: usize,
        payload: &Payload,
        first: Seq,
        last: Seq,
    ) {
        let mut slots = std::mem::take(&mut self.scratch);
        slots.clear();
        slots.extend_from_slice(&self.registry.plain(channel)[from..to]);
        // A slot that ends meanwhile leaves its index vacant until the slice is through.
        let lane_is_new = !self.lanes.contains_key(&channel);
        if lane_is_new {
            self.lanes.insert(channel, Lane::default());
        }
        for &index in slots.iter().filter(|&&index| index != VACANT) {
            self.guarded(index, |engine| engine.offer(index, payload, None, first, last));
        }
        self.flush_tally();
        if lane_is_new {
            self.lanes.remove(&channel);
        }
        self.scratch = slots;
    }

    fn compact(&mut self, channel: ChannelId) {
        let slots = &mut self.slots;
        self.registry.compact(channel, |slot, plain_index| {
            if let Some(slot) = slots.get_mut(slot as usize) {
                slot.plain_index = plain_index;
            }
        });
    }

    /// At most `sends_max` sends of a large channel's round; says how many, and whether the lane
    /// has more.
    fn work_lane(&mut self, channel: ChannelId, sends_max: usize) -> (usize, bool) {
        let plain_count = self.registry.plain(channel).len();
        let Some(lane) = self.lanes.get_mut(&channel) else { return (0, false) };
        if lane.round.is_none() && !lane.begin(plain_count, &self.plain_shape) {
            self.lanes.remove(&channel);
            return (0, false);
        }
        let Some(round) = &mut lane.round else { return (0, false) };
        let from = round.next;
        let to = (from + sends_max).min(round.end);
        round.next = to;
        let PlainRound { first, last, end, .. } = *round;
        let payload = Arc::clone(&round.payload);
        self.send_slice(channel, from, to, &payload, first, last);
        if to < end {
            return (to - from, true);
        }
        if let Some(lane) = self.lanes.get_mut(&channel) {
            lane.round = None;
            if !lane.waiting.is_empty() {
                self.compact(channel);
                return (to - from, true);
            }
        }
        self.lanes.remove(&channel);
        self.compact(channel);
        (to - from, false)
    }

    /// One slice of the mixed lane.
    fn work_mixed(&mut self) {
        if self.mixed.round.is_none() {
            let Some(channels) = self.mixed.begin() else { return };
            self.mark_mixed(&channels);
        }
        let Some(mut round) = self.mixed.round.take() else { return };
        let to = (round.next + SENDS_PER_SLICE).min(round.due.len());
        for at in round.next..to {
            let index = round.due[at];
            let set = std::mem::take(&mut self.mixed.sets[index as usize]);
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let shape = Arc::clone(slot.subscriber.shape(&self.plain_shape));
            let (first, last) = (round.first, round.last);
            let send = round.send(set, &shape);
            let wants_reply = send.reply.is_none() && shape.transport() == Transport::Poll;
            let mut reply = None;
            self.guarded(index, |engine| {
                engine.offer(index, &send.payload, Some((&send, &mut reply)), first, last);
            });
            if wants_reply && let Some(reply) = reply {
                round.keep_reply(set, &shape, reply);
            }
        }
        self.flush_tally();
        round.next = to;
        if to < round.due.len() {
            self.mixed.round = Some(round);
        } else {
            self.last_answer = None;
        }
    }

    fn flush_tally(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        self.metrics.sends.inc_by(tally.sends);
        self.metrics.deliveries.inc_by(tally.deliveries);
    }

    /// Finds who receives something of the round that begins.
    fn mark_mixed(&mut self, channels: &[(Arc<Batch>, usize)]) {
        let Some(round) = &mut self.mixed.round else { return };
        let sets = &mut self.mixed.sets;
        sets.resize(self.slots.capacity().max(sets.len()), ChannelSets::EMPTY);
        for (number, (batch, run)) in channels.iter().enumerate() {
            let entry = &batch.runs()[*run].entry;
            if self.registry.look_up(entry).is_none() {
                continue;
            }
            self.registry.each_mixed(entry.id(), |slot| {
                let set = &mut sets[slot as usize];
                if *set == ChannelSets::EMPTY {
                    round.due.push(slot);
                }
                *set = round.sets.with(*set, number as u32);
            });
        }
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
            // Nothing of the round passes its filter.
            if slot.connection.cursor() < first {
                slot.connection.advance_idle(last);
            }
            return;
        }
        let counted_through = slot.connection.counted_through();
        let (events, bytes) = match counted_through < first {
            true => (payload.events().len() as u32, payload.bytes().len() as u64),
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
