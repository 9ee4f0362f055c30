//! The shard without its thread: slots, fan-out, deadlines.
//!
//! Synchronous and single-threaded; every call does a bounded amount of work. Each step of a
//! connection runs under `catch_unwind`: a panic ends that connection and nobody else's.

mod answers;
mod attach;
mod explain;
mod fan_out;
mod lease;
mod reading;
mod sending;
mod serving;
mod unsent;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use self::{
    answers::LastAnswer, explain::RecentlyClosed, fan_out::BatchInProgress, unsent::Unsent,
};
use super::{
    registry::{Registry, VACANT},
    rounds::{Lane, MixedLane},
    sets::ChannelSets,
    slot::{Slot, Subscribed},
    slots::Slots,
};
use crate::{
    actors::{
        ClientInfo, Lease, Socket,
        payload::Payload,
        peer::ReadyList,
        slot_key::SlotKey,
        subscriber::{Admission, ReplayPermit, Shape},
    },
    backend::{ChannelId, EventStore},
    core::{CloseReason, ConnectionLimits, ConnectionMsg, Effect, Transport, Wheel},
    model::{PollAnswer, Seq, retry_block, token_block},
    telemetry::Metrics,
};

/// The connections of one shard and the rounds that serve them.
#[derive(Debug)]
pub struct Engine {
    backend: Arc<EventStore>,
    metrics: Arc<Metrics>,
    limits: ConnectionLimits,
    slots: Slots<Slot>,
    generation: u32,
    registry: Registry,
    /// Batches whose runs are being handed out, and how far the first of them is.
    batches: VecDeque<BatchInProgress>,
    lanes: FxHashMap<ChannelId, Lane>,
    /// Lanes with work, round robin.
    lane_queue: VecDeque<ChannelId>,
    mixed: MixedLane,
    plain_shape: Arc<Shape>,
    wheel: Wheel<u32>,
    /// By slot: how long a connection may go on, where clients are authenticated. It is not in the
    /// slots, so that it costs nothing where they are not.
    leases: FxHashMap<u32, Box<Lease>>,
    /// By slot: where a connection comes from, for the same reason.
    client_infos: FxHashMap<u32, Box<ClientInfo>>,
    /// By slot: permits of connections that are being sent history.
    replays: FxHashMap<u32, ReplayPermit>,
    /// Slots whose deadline has come, to be looked at.
    overdue: Vec<u32>,
    ready: Arc<ReadyList>,
    /// Slots that go on in a later pass.
    queued: Vec<SlotKey>,
    /// How far the log is as this shard knows it: all batches up to there that concern it have been
    /// handed out.
    head: Seq,
    /// The same of the log when it was last looked at, if there are batches to be handed out
    /// before.
    log_head: Seq,
    now_ms: u64,
    random: fastrand::Rng,
    /// Bytes read from history last, for the others who read the same.
    last_read: Option<(Arc<Shape>, Arc<Payload>)>,
    /// The answer that a poll of the round in hand was given last.
    last_answer: Option<LastAnswer>,
    returned: Vec<ReturnedSocket>,
    drain_until_ms: Option<u64>,
    /// Dropped when it has no connection.
    emptied: Option<oneshot::Sender<()>>,
    /// The slot whose next step panics: for tests of isolation.
    fault: u32,
    scratch: Vec<u32>,
    due: Vec<SlotKey>,
    tally: Tally,
    /// Connections that ended lately.
    closed: RecentlyClosed,
    unsent: Unsent,
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
pub struct ReturnedSocket {
    /// The socket.
    pub io: Socket,
    /// What was read from it already.
    pub early: Bytes,
    /// Whether requests follow. If not, the end of the answer is still to be sent.
    pub keep_alive: bool,
    /// What it counts against as a poll, to be given back once it counts as something else: in
    /// between it would not be counted, and thousands may be answered at once.
    pub counted: (Admission, Option<Box<ClientInfo>>),
}

impl Engine {
    /// An empty shard, which is the one of that number; `seed` drives its jitter.
    pub fn new(
        backend: Arc<EventStore>,
        limits: ConnectionLimits,
        metrics: Arc<Metrics>,
        shard: usize,
        seed: u64,
        now_ms: u64,
    ) -> Self {
        Self {
            limits,
            head: backend.head(),
            log_head: Seq::ZERO,
            registry: Registry::new(shard, Arc::clone(backend.registry().pattern_subscribers())),
            backend,
            metrics,
            slots: Slots::new(),
            generation: 0,
            batches: VecDeque::new(),
            lanes: FxHashMap::default(),
            lane_queue: VecDeque::new(),
            leases: FxHashMap::default(),
            client_infos: FxHashMap::default(),
            replays: FxHashMap::default(),
            mixed: MixedLane::default(),
            plain_shape: Arc::new(Shape::frames()),
            wheel: Wheel::new(1_024, 64, now_ms),
            overdue: Vec::new(),
            ready: Arc::default(),
            queued: Vec::new(),
            now_ms,
            random: fastrand::Rng::with_seed(seed),
            last_read: None,
            last_answer: None,
            returned: Vec::new(),
            drain_until_ms: None,
            emptied: None,
            fault: VACANT,
            scratch: Vec::new(),
            due: Vec::new(),
            tally: Tally::default(),
            closed: RecentlyClosed::default(),
            unsent: Unsent::default(),
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

    /// Whether it has something to do that nothing will wake it for: batches to hand out, rounds under
    /// way, slots and deadlines that did not fit into the last pass.
    pub(super) fn has_more(&self) -> bool {
        let has_slots = !self.due.is_empty() || !self.queued.is_empty() || !self.overdue.is_empty();
        has_slots || self.has_rounds()
    }

    /// Whether the shard's loop would have been woken; from then on it is asleep again.
    #[cfg(test)]
    pub(super) fn take_wake(&self) -> bool {
        self.ready.take_wake()
    }

    /// Whether no slot asks to be looked at.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.queued.is_empty() && self.ready.is_empty()
    }

    /// Whether it is still being found out where a connection starts.
    #[cfg(test)]
    pub(super) fn is_searching_start(&self, key: SlotKey) -> bool {
        let slot = self.slots.get(key.index as usize);
        let slot = slot.filter(|slot| slot.generation == key.generation);
        let reader = slot.and_then(|slot| slot.reader.as_ref());
        reader.is_some_and(|reader| reader.is_searching_start())
    }

    /// Sockets of answered polls since the last call; none while a round of the mixed lane is under
    /// way: all answers go out before any of their clients is listened to again.
    pub fn take_returned(&mut self) -> Vec<ReturnedSocket> {
        if self.mixed.round.is_some() {
            return Vec::new();
        }
        std::mem::take(&mut self.returned)
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

    /// Drops `done` when it has no connection.
    pub(crate) fn when_empty(&mut self, done: oneshot::Sender<()>) {
        self.emptied = (!self.is_empty()).then_some(done);
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
            .find(|(_, slot)| slot.subscriber.named().any(|entry| entry.name() == channel));
        self.fault = found.map_or(VACANT, |(index, _)| index as u32);
        self.fault != VACANT
    }

    /// Takes a planted fault back.
    pub fn withdraw_fault(&mut self) {
        self.fault = VACANT;
    }

    /// Makes the beginning of the next connection panic, before anything else of it.
    #[cfg(test)]
    pub(super) fn plant_fault_in_next(&mut self) {
        self.fault = self.slots.vacant_key() as u32;
    }

    fn drain_slot(&mut self, index: u32, until_ms: u64) {
        let at_ms = self.random.u64(self.now_ms..=until_ms.max(self.now_ms));
        let slot = &mut self.slots[index as usize];
        if let Subscribed::Full(full) = &mut slot.subscriber
            && let Some(ticket) = &mut full.ticket
        {
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
            self.wheel.schedule(check_ms, index);
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
                        slot.reads_left = READS_PER_PASS;
                        if !slot.is_queued {
                            slot.is_queued = true;
                            self.queued.push(slot.key(index));
                            // This may be called between two passes of the shard's loop.
                            self.ready.wake();
                        }
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
                Effect::End(reason) => return self.finish(index, self.due_reason(index, reason)),
            };
        }
    }

    /// After its steps: what only a connection that is behind needs is let go.
    fn settle(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.reads_left = READS_PER_PASS;
        if !slot.connection.is_behind() && slot.reader.take().is_some() {
            self.replays.remove(&index);
            // Its next heartbeat may come before the check for a stall would have.
            self.schedule(index);
        }
    }

    /// Ends a connection: its last words, its entries in the lists, its socket.
    fn finish(&mut self, index: u32, reason: CloseReason) {
        let Some(mut slot) = self.slots.try_remove(index as usize) else { return };
        if self.slots.is_empty() {
            self.emptied = None;
        }
        if reason.asks_to_reconnect() && slot.connection.rest().is_empty() {
            let mut words = reason.token_word().map(token_block).unwrap_or_default();
            words.extend(retry_block(self.jittered_retry_ms()));
            let _ = slot.peer.write_all(&Bytes::from(words), &mut 0);
        }
        match &slot.subscriber {
            Subscribed::Full(full) => self.registry.remove_mixed(index, &full.subscriber),
            Subscribed::Plain(plain) => {
                let channel = plain.channel();
                let in_round = self.lanes.contains_key(&channel);
                let moved = self.registry.remove_plain(index, slot.plain_index, channel, in_round);
                if let Some(moved) = moved.and_then(|moved| self.slots.get_mut(moved as usize)) {
                    moved.plain_index = slot.plain_index;
                }
            }
        }
        if let Some(set) = self.mixed.sets.get_mut(index as usize) {
            *set = ChannelSets::EMPTY;
        }
        self.gauge(slot.connection.transport()).dec();
        Metrics::count(&self.metrics.connections_closed, reason.as_str());
        self.replays.remove(&index);
        let (lease, client_info) = (self.leases.remove(&index), self.client_infos.remove(&index));
        self.record_closed(&slot, lease.as_deref(), client_info.as_deref(), reason);
        #[cfg(test)]
        self.ended.push((slot.subscriber.id(), reason));
        tracing::debug!(id = slot.subscriber.id(), reason = reason.as_str(), "connection ended");
        let keeps = slot.subscriber.ticket().is_some_and(|ticket| ticket.keep_alive);
        let keep_alive = keeps && self.drain_until_ms.is_none();
        if reason == CloseReason::Answered
            && (keep_alive || slot.peer.has_close_frame())
            && let Some((io, early)) = slot.peer.into_socket()
            && let Subscribed::Full(full) = slot.subscriber
        {
            let counted = (full.subscriber.admission, client_info);
            self.returned.push(ReturnedSocket { io, early, counted, keep_alive });
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
}

impl Drop for Engine {
    /// A shard that ends, by a crash too, takes its connections along: they count no longer.
    fn drop(&mut self) {
        for (_, slot) in self.slots.iter() {
            self.gauge(slot.connection.transport()).dec();
            let reason = CloseReason::ShardEnded.as_str();
            Metrics::count(&self.metrics.connections_closed, reason);
        }
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Sends in one slice of a lane: about a third of a millisecond, which is what a publisher on this
/// shard waits while a large fan-out is under way (docs/adr/009-slices.md).
const SENDS_PER_SLICE: usize = if cfg!(test) { 3 } else { 64 };
/// Reads of history that a connection may do in one pass.
const READS_PER_PASS: u8 = if cfg!(test) { 2 } else { 4 };
/// Events of one read of history.
const READ_EVENTS_MAX: usize = if cfg!(test) { 5 } else { 128 };
/// Frame bytes after which a read of history stops.
const READ_BYTES_MAX: usize = if cfg!(test) { 700 } else { 48 * 1024 };
