//! The shard without its thread: slots, fan-out, deadlines.
//!
//! Synchronous and single-threaded; every call does a bounded amount of work. Each step of a
//! connection runs under `catch_unwind`: a panic ends that connection and nobody else's.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use slab::Slab;
use tokio::net::TcpStream;

use super::{
    registry::{Registry, VACANT, named_entries},
    rounds::{Lane, MixedLane, MixedSend, PlainRound},
    slot::{Reading, Slot, SlotKey},
};
use crate::{
    actors::{
        batch::Batch,
        payload::Payload,
        peer::{Input, Peer, ReadyList, SlotWaker},
        subscriber::{Form, PollTicket, Shape, Subscriber},
    },
    backend::{ChannelId, Member, MemoryBackend},
    core::{
        CloseReason, Connection, ConnectionLimits, ConnectionMsg, Effect, FellOff, Joint,
        Transport, Wheel,
    },
    model::{
        Event, EventKind, Gap, GapReason, PollAnswer, PollReply, Position, Seq, Start,
        closed_block, first_block, hello_block, position_block, retry_block,
    },
    telemetry::Metrics,
};

/// The connections of one shard and the rounds that serve them.
#[derive(Debug)]
pub struct Engine {
    backend: Arc<MemoryBackend>,
    metrics: Arc<Metrics>,
    limits: ConnectionLimits,
    slots: Slab<Slot>,
    generation: u32,
    registry: Registry,
    lanes: FxHashMap<ChannelId, Lane>,
    /// Lanes with work, in turn.
    turns: std::collections::VecDeque<ChannelId>,
    mixed: MixedLane,
    plain_shape: Arc<Shape>,
    wheel: Wheel<SlotKey>,
    ready: Arc<ReadyList>,
    /// The last seq of the batches this shard has been given.
    head: Seq,
    now_ms: u64,
    random: fastrand::Rng,
    /// Bytes read from history last, for the others who read the same.
    last_read: Option<(ReadKey, Arc<Payload>)>,
    handed_back: Vec<Finished>,
    drain_until_ms: Option<u64>,
    /// The slot whose next step panics: for tests of isolation.
    fault: u32,
    scratch: Vec<u32>,
    due: Vec<SlotKey>,
    tally: Tally,
    /// Which connections ended since a test looked, and why.
    #[cfg(test)]
    pub(super) ended: Vec<(u64, CloseReason)>,
}

/// Sends since the metrics were told.
#[derive(Debug, Default)]
struct Tally {
    sends: u64,
    deliveries: u64,
}

/// A poll's socket after its answer, for the HTTP server to go on with.
#[derive(Debug)]
pub struct Finished {
    /// The socket.
    pub io: TcpStream,
    /// What was read from it already.
    pub early: Bytes,
}

type ReadKey = (ChannelId, Seq, Seq, usize);

impl Engine {
    /// An empty shard; `seed` drives its jitter.
    pub fn new(backend: Arc<MemoryBackend>, metrics: Arc<Metrics>, seed: u64, now_ms: u64) -> Self {
        Self {
            limits: backend.limits().connections.clone(),
            head: backend.head(),
            backend,
            metrics,
            slots: Slab::new(),
            generation: 0,
            registry: Registry::default(),
            lanes: FxHashMap::default(),
            turns: std::collections::VecDeque::new(),
            mixed: MixedLane::default(),
            plain_shape: Arc::new(Shape::frames()),
            wheel: Wheel::new(1_024, 64, now_ms),
            ready: Arc::default(),
            now_ms,
            random: fastrand::Rng::with_seed(seed),
            last_read: None,
            handed_back: Vec::new(),
            drain_until_ms: None,
            fault: VACANT,
            scratch: Vec::new(),
            due: Vec::new(),
            tally: Tally::default(),
            #[cfg(test)]
            ended: Vec::new(),
        }
    }

    /// How many connections it has.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The list on which slots ask to be looked at.
    pub(crate) fn ready_list(&self) -> Arc<ReadyList> {
        Arc::clone(&self.ready)
    }

    /// Whether no slot asks to be looked at.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.due.is_empty() && self.ready.is_empty()
    }

    /// Sockets of answered polls since the last call.
    pub fn take_handed_back(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.handed_back)
    }

    /// Takes a connection on: registers it, finds out where it starts, and sends what it can.
    /// `head` is what goes before the stream (a response head).
    pub fn attach(
        &mut self,
        subscriber: Subscriber,
        peer: Box<dyn Peer>,
        head: Bytes,
        ticket: Option<PollTicket>,
        now_ms: u64,
    ) -> SlotKey {
        self.now_ms = now_ms;
        self.generation = self.generation.wrapping_add(1);
        let transport = subscriber.shape.transport();
        let index = self.slots.vacant_key() as u32;
        let key = SlotKey { index, generation: self.generation };

        // Register first: whatever the log commits from here on comes as a round or lies before
        // the head that `resume` reads below.
        let place = if Slot::is_plain(&subscriber) {
            self.registry.add_plain(index, subscriber.named[0].entry())
        } else {
            self.registry.add_mixed(index, &subscriber);
            VACANT
        };
        let head_seq = self.backend.head();
        let mut reading = self.list_members(&subscriber, head_seq);
        let members = &mut reading.members;
        let resume =
            self.backend.resume(&subscriber.subscription, members, &subscriber.start, head_seq);

        let mut preamble = Vec::from(&head[..]);
        if transport == Transport::Stream {
            let retry_ms = subscriber.retry_ms.unwrap_or_else(|| self.jittered_retry_ms());
            // Behind a gap the client moves on with the gap event: should the connection break
            // before it, the client comes back from where it stood, and is told again.
            let token = match &resume.gap {
                Some(gap) if Start::parse(&gap.requested).is_ok() => gap.requested.clone(),
                _ => self.backend.position(resume.cursor).to_string(),
            };
            preamble.extend(first_block(retry_ms, token));
            if subscriber.hello {
                preamble.extend(hello_block(&subscriber.id.to_string()));
            }
            if let Some(gap) = &resume.gap {
                preamble.extend(gap.to_block());
            }
        }
        if let Some(gap) = &resume.gap {
            Metrics::count(&self.metrics.gaps, gap.reason.as_str());
        }
        // A closed channel still owes its closing event to those who stand before it.
        let open = reading.members[..subscriber.named.len()].iter().filter(|member| {
            let told = member.told_through.max(resume.cursor);
            member.entry.closed_seq().is_none_or(|closed| closed > told)
        });
        let joint = Joint {
            cursor: resume.cursor,
            replay_through: resume.head,
            preamble: preamble.into(),
            due_ms: subscriber.ends_after_ms.map_or(u64::MAX, |after| now_ms + after),
            open_names: open.count() as u16,
            has_patterns: !subscriber.subscription.patterns().is_empty(),
        };
        let connection = Connection::new(joint, transport, subscriber.policy, now_ms);
        self.slots.insert(Slot {
            connection,
            peer,
            waker: SlotWaker::new(key, Arc::clone(&self.ready)),
            subscriber: Box::new(subscriber),
            reading: Some(Box::new(reading)),
            ticket: ticket.map(Box::new),
            check_ms: u64::MAX,
            generation: key.generation,
            place,
            reads_left: READS_PER_TURN,
        });
        self.metrics.connections_opened.inc();
        self.gauge(transport).inc();
        self.guarded(index, |engine| {
            match resume.gap {
                Some(gap) if transport == Transport::Poll => engine.answer_gap(index, gap),
                _ => engine.step(index, ConnectionMsg::Writable),
            }
            engine.look_at_input(index);
        });
        if let Some(until_ms) = self.drain_until_ms
            && self.slots.contains(index as usize)
        {
            self.drain_slot(index, until_ms);
        }
        self.schedule(index);
        key
    }

    /// Takes a batch of the log. It is sent in the [`work`](Self::work) that follows.
    pub fn give(&mut self, batch: Arc<Batch>, now_ms: u64) {
        self.now_ms = now_ms;
        self.head = batch.last();
        let mut mixed = false;
        for (index, run) in batch.runs().iter().enumerate() {
            let Some(subscribers) = self.registry.look_up(&run.entry) else { continue };
            mixed |= subscribers.has_mixed();
            let places = subscribers.plain_len();
            if places == 0 {
                continue;
            }
            let channel = run.entry.id();
            if places <= SENDS_PER_SLICE && !self.lanes.contains_key(&channel) {
                self.send_run(&batch, index, places);
            } else {
                let lane = self.lanes.entry(channel).or_default();
                if lane.round.is_none() && lane.waiting.is_empty() {
                    self.turns.push_back(channel);
                }
                lane.waiting.push_back((Arc::clone(&batch), index));
            }
        }
        if mixed {
            self.mixed.waiting.push_back(batch);
        }
    }

    /// One bounded slice of fan-out; true while there is more to do.
    pub fn work(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        if let Some(channel) = self.turns.pop_front()
            && self.work_lane(channel)
        {
            self.turns.push_back(channel);
        }
        self.work_mixed();
        !self.turns.is_empty() || self.mixed.round.is_some() || !self.mixed.waiting.is_empty()
    }

    /// Looks at the slots that asked for it; at most `slots_max` of them, true while there are
    /// more.
    pub fn serve_ready(&mut self, slots_max: usize, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        if self.due.is_empty() {
            self.ready.take(&mut self.due);
        }
        let from = self.due.len().saturating_sub(slots_max);
        for key in self.due.split_off(from) {
            let Some(slot) = self.slots.get_mut(key.index as usize) else { continue };
            if slot.generation != key.generation {
                continue;
            }
            slot.waker.rearm();
            self.guarded(key.index, |engine| {
                engine.look_at_input(key.index);
                engine.step(key.index, ConnectionMsg::Writable);
            });
        }
        !self.due.is_empty()
    }

    /// Lets deadlines and heartbeats happen.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let mut due = Vec::new();
        self.wheel.advance(now_ms, &mut due);
        for key in due {
            let Some(slot) = self.slots.get_mut(key.index as usize) else { continue };
            if slot.generation != key.generation || slot.check_ms > now_ms {
                continue;
            }
            slot.check_ms = u64::MAX;
            self.guarded(key.index, |engine| engine.step(key.index, ConnectionMsg::Tick));
            self.schedule(key.index);
        }
        self.registry.prune(self.backend.directory().len());
    }

    /// Ends every connection at a time of its own within `window_ms`, each with its own
    /// reconnection time; those that come later too.
    pub fn drain(&mut self, window_ms: u64, now_ms: u64) {
        self.now_ms = now_ms;
        let until_ms = now_ms + window_ms;
        self.drain_until_ms = Some(until_ms);
        let indices: Vec<u32> = self.slots.iter().map(|(index, _)| index as u32).collect();
        for index in indices {
            self.drain_slot(index, until_ms);
        }
    }

    /// Ends one connection.
    pub fn close(&mut self, key: SlotKey, reason: CloseReason) {
        if self.slots.get(key.index as usize).is_some_and(|s| s.generation == key.generation) {
            self.finish(key.index, reason);
        }
    }

    /// Makes the next step of some connection to `channel` panic; false if there is none.
    pub fn plant_fault(&mut self, channel: &crate::model::ChannelName) -> bool {
        let found = self
            .slots
            .iter()
            .find(|(_, slot)| named_entries(&slot.subscriber).any(|entry| entry.name() == channel));
        self.fault = found.map_or(VACANT, |(index, _)| index as u32);
        self.fault != VACANT
    }

    /// Takes a planted fault back.
    pub fn withdraw_fault(&mut self) {
        self.fault = VACANT;
    }

    fn drain_slot(&mut self, index: u32, until_ms: u64) {
        let at_ms = self.random.u64(self.now_ms..=until_ms.max(self.now_ms));
        let slot = &mut self.slots[index as usize];
        if let Some(ticket) = &mut slot.ticket {
            ticket.keep_alive = false;
        }
        slot.connection.handle(ConnectionMsg::Drain { at_ms }, self.now_ms, &self.limits);
        self.schedule(index);
    }

    fn schedule(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let check_ms = slot.connection.next_check_ms(&self.limits);
        if check_ms < slot.check_ms {
            slot.check_ms = check_ms;
            self.wheel.schedule(check_ms, SlotKey { index, generation: slot.generation });
        }
    }

    /// Runs one step of a connection; a panic in it ends that connection.
    fn guarded(&mut self, index: u32, step: impl FnOnce(&mut Self)) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if self.fault == index {
                self.fault = VACANT;
                panic!("planted fault in a connection's step");
            }
            step(self);
        }));
        if outcome.is_err() {
            tracing::error!(slot = index, "a connection's step panicked; the connection is ended");
            self.finish(index, CloseReason::Panicked);
        }
    }

    /// The run of a small channel, to each of its plain streams at once.
    fn send_run(&mut self, batch: &Arc<Batch>, run: usize, places: usize) {
        let run = &batch.runs()[run];
        let payload = Payload::new(run.events.clone(), &self.plain_shape);
        let channel = run.entry.id();
        self.send_slice(channel, 0, places, &payload, batch.first(), batch.last());
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
        // A slot that ends meanwhile leaves its place vacant until the slice is through.
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
        self.registry.compact(channel, |slot, place| {
            if let Some(slot) = slots.get_mut(slot as usize) {
                slot.place = place;
            }
        });
    }

    /// One slice of a large channel's round; true while the lane has more.
    fn work_lane(&mut self, channel: ChannelId) -> bool {
        let places = self.registry.plain(channel).len();
        let Some(lane) = self.lanes.get_mut(&channel) else { return false };
        if lane.round.is_none() && !lane.begin(places, &self.plain_shape) {
            self.lanes.remove(&channel);
            return false;
        }
        let Some(round) = &mut lane.round else { return false };
        let from = round.next;
        let to = (from + SENDS_PER_SLICE).min(round.end);
        round.next = to;
        let PlainRound { first, last, end, .. } = *round;
        let payload = Arc::clone(&round.payload);
        self.send_slice(channel, from, to, &payload, first, last);
        if to < end {
            return true;
        }
        if let Some(lane) = self.lanes.get_mut(&channel) {
            lane.round = None;
            if !lane.waiting.is_empty() {
                self.compact(channel);
                return true;
            }
        }
        self.lanes.remove(&channel);
        self.compact(channel);
        false
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
            let mask = std::mem::take(&mut self.mixed.masks[index as usize]);
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let shape = Arc::clone(&slot.subscriber.shape);
            let (first, last) = (round.first, round.last);
            let Some(send) = round.send(mask, &shape) else {
                self.guarded(index, |engine| engine.fall_behind(index, first, last));
                continue;
            };
            let wants_reply = send.reply.is_none() && shape.transport() == Transport::Poll;
            let mut reply = None;
            self.guarded(index, |engine| {
                engine.offer(index, &send.payload, Some((&send, &mut reply)), first, last);
            });
            if wants_reply && let Some(reply) = reply {
                round.keep_reply(mask, &shape, reply);
            }
        }
        self.flush_tally();
        round.next = to;
        if to < round.due.len() {
            self.mixed.round = Some(round);
        }
    }

    fn flush_tally(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        self.metrics.sends.inc_by(tally.sends);
        self.metrics.deliveries.inc_by(tally.deliveries);
    }

    /// Finds who receives something of the round that begins.
    fn mark_mixed(&mut self, channels: &[(u8, usize, Arc<Batch>)]) {
        let Some(round) = &mut self.mixed.round else { return };
        let masks = &mut self.mixed.masks;
        masks.resize(self.slots.capacity().max(masks.len()), 0);
        for (bit, run, batch) in channels {
            let entry = &batch.runs()[*run].entry;
            if self.registry.look_up(entry).is_none() {
                continue;
            }
            self.registry.each_mixed(entry.id(), |slot| {
                let mask = &mut masks[slot as usize];
                if *mask == 0 {
                    round.due.push(slot);
                }
                *mask |= 1 << bit;
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

    /// The round holds more channels than its masks tell apart: read them from history.
    fn fall_behind(&mut self, index: u32, first: Seq, last: Seq) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let round = ConnectionMsg::Round { first, last, events: 0, bytes: 0 };
        match slot.connection.handle(round, self.now_ms, &self.limits) {
            Effect::Send => {
                let cursor = slot.connection.cursor();
                let blocked = ConnectionMsg::Blocked {
                    cursor,
                    rest: Bytes::new(),
                    progressed: false,
                    due: (0, 0),
                    sent: (0, 0),
                };
                slot.connection.handle(blocked, self.now_ms, &self.limits);
                self.perform(index, Effect::Read(cursor));
            }
            effect => self.perform(index, effect),
        }
    }

    /// Sends a payload. `caught_up` is set when history had nothing after it up to that seq.
    fn send(&mut self, index: u32, payload: &Payload, through: Seq, caught_up: Option<Seq>) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let mut taken = 0;
        let outcome = write_all(&mut *slot.peer, &slot.waker, payload.bytes(), &mut taken);
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
            self.tally.sends += 1;
            self.tally.deliveries += begun as u64;
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
            let cursor = match begun {
                0 => slot.connection.cursor(),
                _ => payload.events()[begun - 1].seq,
            };
            let counted = payload.after(replay_through);
            let due = payload.after(cursor.max(replay_through));
            let blocked = ConnectionMsg::Blocked {
                cursor,
                rest: payload.split(taken).rest,
                progressed: taken > 0,
                due,
                sent: (counted.0 - due.0, counted.1 - due.1),
            };
            self.tally.sends += 1;
            self.tally.deliveries += begun as u64;
            slot.connection.handle(blocked, self.now_ms, &self.limits)
        };
        self.perform(index, effect);
    }

    /// Tells a connection which of its named channels it has just been told are closed.
    fn note_closed(&mut self, index: u32, events: &[Arc<Event>]) {
        let slot = &mut self.slots[index as usize];
        for event in events.iter().filter(|event| event.kind == EventKind::Closed) {
            if named_entries(&slot.subscriber).any(|entry| *entry.name() == event.channel) {
                let msg = ConnectionMsg::NamedChannelClosed;
                slot.connection.handle(msg, self.now_ms, &self.limits);
            }
        }
    }

    /// Tells a connection what happened, and performs what follows.
    fn step(&mut self, index: u32, msg: ConnectionMsg) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let effect = slot.connection.handle(msg, self.now_ms, &self.limits);
        self.perform(index, effect);
    }

    /// Performs an effect and those that follow from it. A connection that could go on reading
    /// history for long is put on the ready list instead.
    fn perform(&mut self, index: u32, mut effect: Effect) {
        loop {
            effect = match effect {
                Effect::None | Effect::Send => return self.settle(index),
                Effect::SendRest => self.send_rest(index),
                Effect::Read(after) => {
                    let Some(slot) = self.slots.get_mut(index as usize) else { return };
                    if slot.reads_left == 0 {
                        slot.reads_left = READS_PER_TURN;
                        slot.waker.wake_slot();
                        return;
                    }
                    slot.reads_left -= 1;
                    return self.read(index, after);
                }
                Effect::Skip { from } => self.skip(index, from),
                Effect::Heartbeat => return self.heartbeat(index),
                Effect::AnswerEmpty => {
                    let position = self.safe_position(index);
                    let answer = PollAnswer { events: Vec::new(), position, gap: None };
                    return self.answer(index, answer);
                }
                Effect::End(reason) => return self.finish(index, reason),
            };
        }
    }

    /// After its steps: what only a connection that is behind needs is let go.
    fn settle(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.reads_left = READS_PER_TURN;
        if !slot.connection.is_behind() && slot.reading.take().is_some() {
            // Its next heartbeat may come before the check for a stall would have.
            self.schedule(index);
        }
    }

    fn send_rest(&mut self, index: u32) -> Effect {
        let Some(slot) = self.slots.get_mut(index as usize) else { return Effect::None };
        let mut taken = 0;
        let rest = slot.connection.rest();
        match write_all(&mut *slot.peer, &slot.waker, &rest, &mut taken) {
            Err(_) => Effect::End(CloseReason::PeerClosed),
            Ok(()) => {
                drop(rest);
                let msg = ConnectionMsg::RestTaken(taken);
                slot.connection.handle(msg, self.now_ms, &self.limits)
            }
        }
    }

    /// Reads on from history.
    fn read(&mut self, index: u32, after: Seq) {
        // The head comes first: whatever lies up to it is in channels that are listed below.
        let head = self.backend.head();
        let births = self.backend.directory().births();
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let (mut reading, lost) = match slot.reading.take() {
            Some(reading) if reading.births == births => (reading, false),
            known => Self::list_anew(&self.backend, &slot.subscriber, known, after),
        };
        let poll_limit = match slot.subscriber.shape.form {
            Form::Poll { limit, .. } => Some(limit as usize),
            _ => None,
        };
        let (events_max, bytes_max) = (READ_EVENTS_MAX, READ_BYTES_MAX);
        let slice = match lost {
            true => Err(FellOff { evicted_through: head }),
            false => self.backend.read(&reading.members, after, head, events_max, bytes_max),
        };
        let only = match &reading.members[..] {
            [only] => Some(only.entry.id()),
            _ => None,
        };
        if slot.connection.is_behind() {
            slot.reading = Some(reading);
        } else {
            reading.members.clear();
        }
        let slice = match slice {
            Ok(slice) => slice,
            Err(_) if poll_limit.is_some() => return self.answer_fallen_off(index, after),
            Err(_) => return self.step(index, ConnectionMsg::FellOff),
        };
        let Some(last) = slice.events.last().map(|event| event.seq) else {
            return self.step(index, ConnectionMsg::CaughtUp(head.max(after)));
        };
        let shape = Arc::clone(&slot.subscriber.shape);
        let mut through = if slice.more { last } else { head.max(last) };
        if let Some(limit) = poll_limit {
            // The limit counts what passes the filter, not what is looked at.
            let mut events = Payload::new(slice.events, &shape).events().to_vec();
            if events.is_empty() {
                return self.step(index, ConnectionMsg::Sent { through, sent: (0, 0) });
            }
            if events.len() > limit.max(1) {
                events.truncate(limit.max(1));
                through = events.last().map_or(through, |event| event.seq);
            }
            let position = self.backend.position(through);
            return self.answer(index, PollAnswer { events, position, gap: None });
        }
        let payload = self.read_payload(only, &shape, slice.events);
        let caught_up = (!slice.more).then_some(through);
        self.send(index, &payload, last, caught_up);
    }

    /// The bytes of a read, shared with the next connection that reads the same.
    fn read_payload(
        &mut self,
        only: Option<ChannelId>,
        shape: &Arc<Shape>,
        events: Vec<Arc<Event>>,
    ) -> Arc<Payload> {
        let Some((channel, (first, last))) =
            only.zip(events.first().zip(events.last()).map(|(f, l)| (f.seq, l.seq)))
        else {
            return Arc::new(Payload::new(events, shape));
        };
        if !shape.is_plain() {
            return Arc::new(Payload::new(events, shape));
        }
        let key = (channel, first, last, events.len());
        match &self.last_read {
            Some((kept, payload)) if *kept == key => Arc::clone(payload),
            _ => {
                let payload = Arc::new(Payload::new(events, shape));
                self.last_read = Some((key, Arc::clone(&payload)));
                payload
            }
        }
    }

    /// Jumps to the newest event, and says so.
    fn skip(&mut self, index: u32, from: Seq) -> Effect {
        let to = self.backend.head();
        let gap = Gap {
            reason: GapReason::Slow,
            requested: self.backend.position(from).to_string(),
            oldest: self.backend.position(to),
            channel: None,
        };
        Metrics::count(&self.metrics.gaps, gap.reason.as_str());
        let Some(slot) = self.slots.get_mut(index as usize) else { return Effect::None };
        slot.reading = None;
        // That a channel is closed must not be lost with what is skipped.
        let mut words = gap.to_block();
        let mut open_names = 0;
        for entry in named_entries(&slot.subscriber) {
            match entry.closed_seq() {
                Some(closed) if closed <= from => {}
                Some(closed) if closed <= to => words.extend(closed_block(entry.name().as_str())),
                _ => open_names += 1,
            }
        }
        let msg = ConnectionMsg::Skipped { to, gap: words.into(), open_names };
        slot.connection.handle(msg, self.now_ms, &self.limits)
    }

    /// The furthest position that a connection has everything before. A live one has all that
    /// this shard has been given, unless its lane is still at it.
    fn safe_position(&mut self, index: u32) -> Position {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return self.backend.position(self.head);
        };
        let lane_is_idle = match slot.place {
            VACANT => self.mixed.round.is_none() && self.mixed.waiting.is_empty(),
            _ => !self.lanes.contains_key(&slot.subscriber.named[0].entry().id()),
        };
        if lane_is_idle {
            slot.connection.advance_idle(self.head);
        }
        self.backend.position(slot.connection.cursor())
    }

    fn heartbeat(&mut self, index: u32) {
        let position = self.safe_position(index);
        let block = Bytes::from(position_block(position));
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let mut taken = 0;
        let msg = match write_all(&mut *slot.peer, &slot.waker, &block, &mut taken) {
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

    /// Answers a poll from a round, with the bytes that others who wait for the same get too.
    fn answer_round(
        &mut self,
        index: u32,
        send: &MixedSend,
        reply: &mut Option<Arc<PollReply>>,
        last: Seq,
    ) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Form::Poll { encoding, limit } = slot.subscriber.shape.form else { return };
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
        self.respond(index, &encoded, position);
    }

    /// Answers a poll.
    fn answer(&mut self, index: u32, answer: PollAnswer) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let Form::Poll { encoding, .. } = slot.subscriber.shape.form else { return };
        let reply = encoding.encode(&answer);
        self.respond(index, &reply, answer.position);
    }

    /// Answers a poll whose start has a gap: at once, with what is there.
    fn answer_gap(&mut self, index: u32, gap: Gap) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let Form::Poll { limit, .. } = slot.subscriber.shape.form else { return };
        let (after, head) = (gap.oldest.seq, self.backend.head());
        let members = slot.reading.as_ref().map_or(&[][..], |reading| &reading.members);
        let slice = self.backend.read(members, after, head, limit as usize, READ_BYTES_MAX);
        let slice = slice.unwrap_or_default();
        let through = match slice.events.last() {
            Some(last) if slice.more => last.seq,
            None => after,
            _ => head.max(after),
        };
        let payload = Payload::new(slice.events, &Arc::clone(&slot.subscriber.shape));
        let position = self.backend.position(through);
        self.answer(
            index,
            PollAnswer { events: payload.events().to_vec(), position, gap: Some(gap) },
        );
    }

    /// History moved past a poll between its start and its first read.
    fn answer_fallen_off(&mut self, index: u32, after: Seq) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let head = self.backend.head();
        let mut reading = Self::members_of(&self.backend, &slot.subscriber, head);
        let start = Start::At(self.backend.position(after));
        let subscription = &slot.subscriber.subscription;
        let resume = self.backend.resume(subscription, &mut reading.members, &start, head);
        slot.reading = Some(Box::new(reading));
        match resume.gap {
            Some(gap) => self.answer_gap(index, gap),
            None => self.step(index, ConnectionMsg::Writable),
        }
    }

    fn respond(&mut self, index: u32, reply: &PollReply, position: Position) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(ticket) = &slot.ticket else { return };
        let response = (ticket.respond)(reply, position, ticket);
        self.tally.sends += 1;
        let blocked = ConnectionMsg::Blocked {
            cursor: position.seq,
            rest: response,
            progressed: true,
            due: (0, 0),
            sent: (0, 0),
        };
        slot.connection.handle(blocked, self.now_ms, &self.limits);
        self.step(index, ConnectionMsg::Answered);
        self.schedule(index);
    }

    fn look_at_input(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        match slot.peer.poll_input(&slot.waker) {
            Input::Quiet => {}
            Input::Closed => self.finish(index, CloseReason::PeerClosed),
            Input::TooMuch => self.finish(index, CloseReason::UnexpectedInput),
        }
    }

    /// Ends a connection: its last words, its place in the lists, its socket.
    fn finish(&mut self, index: u32, reason: CloseReason) {
        let Some(mut slot) = self.slots.try_remove(index as usize) else { return };
        if reason.invites_back() && slot.connection.rest().is_empty() {
            let words = Bytes::from(retry_block(self.jittered_retry_ms()));
            let _ = write_all(&mut *slot.peer, &slot.waker, &words, &mut 0);
        }
        if slot.place == VACANT {
            self.registry.remove_mixed(index, &slot.subscriber);
        } else {
            let channel = slot.subscriber.named[0].entry().id();
            let in_round = self.lanes.contains_key(&channel);
            let moved = self.registry.remove_plain(index, slot.place, channel, in_round);
            if let Some(moved) = moved.and_then(|moved| self.slots.get_mut(moved as usize)) {
                moved.place = slot.place;
            }
        }
        if let Some(mask) = self.mixed.masks.get_mut(index as usize) {
            *mask = 0;
        }
        self.gauge(slot.connection.transport()).dec();
        Metrics::count(&self.metrics.connections_closed, reason.as_str());
        #[cfg(test)]
        self.ended.push((slot.subscriber.id, reason));
        tracing::debug!(id = slot.subscriber.id, reason = reason.as_str(), "connection ended");
        let keeps = slot.ticket.as_ref().is_some_and(|ticket| ticket.keep_alive);
        if reason == CloseReason::Answered
            && keeps
            && self.drain_until_ms.is_none()
            && let Some((io, early)) = slot.peer.into_socket()
        {
            self.handed_back.push(Finished { io, early });
        }
    }

    fn gauge(&self, transport: Transport) -> &prometheus_client::metrics::gauge::Gauge {
        match transport {
            Transport::Stream => &self.metrics.streams,
            Transport::Poll => &self.metrics.pollers,
        }
    }

    fn jittered_retry_ms(&mut self) -> u32 {
        self.random.u32(self.limits.retry_min_ms..=self.limits.retry_max_ms)
    }

    fn list_members(&self, subscriber: &Subscriber, told_through: Seq) -> Reading {
        Self::members_of(&self.backend, subscriber, told_through)
    }

    fn members_of(backend: &MemoryBackend, subscriber: &Subscriber, told_through: Seq) -> Reading {
        // The births are read first: a channel born meanwhile makes the list stale, not short.
        let births = backend.directory().births();
        let mut members: Vec<Member> =
            named_entries(subscriber).map(|entry| Member::new(Arc::clone(entry))).collect();
        let named = members.len();
        for entry in backend.directory().matching(subscriber.subscription.patterns()) {
            if !members[..named].iter().any(|member| member.entry.id() == entry.id()) {
                members.push(Member::new(entry));
            }
        }
        Reading { members, births, told_through }
    }

    /// Lists the members of a connection that has everything up to `after`, and says whether a
    /// channel that it does not know has lost events since: one that was forgotten, or has been
    /// born anew.
    fn list_anew(
        backend: &MemoryBackend,
        subscriber: &Subscriber,
        known: Option<Box<Reading>>,
        after: Seq,
    ) -> (Box<Reading>, bool) {
        let told_through = known.as_ref().map_or(after, |known| known.told_through.max(after));
        let mut listed = Self::members_of(backend, subscriber, told_through);
        let known = known.iter().flat_map(|known| &known.members);
        let known: FxHashMap<ChannelId, Seq> =
            known.map(|member| (member.entry.id(), member.told_through)).collect();
        let patterns = subscriber.subscription.patterns();
        let mut lost = backend.directory().forgotten_after(patterns, told_through).is_some();
        for member in &mut listed.members {
            match known.get(&member.entry.id()) {
                // What has been told of a channel stays told.
                Some(&told_through) => member.told_through = told_through,
                None => lost |= member.entry.born_after() > told_through,
            }
        }
        (Box::new(listed), lost)
    }
}

impl Drop for Engine {
    /// A shard that ends, by a crash too, takes its connections along: they count no longer.
    fn drop(&mut self) {
        for (_, slot) in &self.slots {
            self.gauge(slot.connection.transport()).dec();
            let reason = CloseReason::ShardEnded.as_str();
            Metrics::count(&self.metrics.connections_closed, reason);
        }
    }
}

/// Writes until all is taken or the peer takes no more; `taken` counts.
fn write_all(
    peer: &mut dyn Peer,
    waker: &Arc<SlotWaker>,
    bytes: &Bytes,
    taken: &mut usize,
) -> io::Result<()> {
    while *taken < bytes.len() {
        let result = if *taken == 0 {
            peer.try_write(bytes, waker)
        } else {
            peer.try_write(&bytes.slice(*taken..), waker)
        };
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *taken += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Sends in one slice of a lane.
const SENDS_PER_SLICE: usize = if cfg!(test) { 3 } else { 256 };
/// Reads of history that a connection may do in one turn.
const READS_PER_TURN: u8 = if cfg!(test) { 2 } else { 4 };
/// Events of one read of history.
const READ_EVENTS_MAX: usize = if cfg!(test) { 5 } else { 128 };
/// Frame bytes after which a read of history stops.
const READ_BYTES_MAX: usize = if cfg!(test) { 700 } else { 48 * 1024 };
