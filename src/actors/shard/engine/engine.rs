//! The shard without its thread: its connections, and the steps of their state machines.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use super::{
    answer_cache::AnswerCache, census::Census, drain::Drain, extras::Extras, fan_out::FanOut,
    planted_fault::PlantedFault, read_cache::ReadCache, ready_slots::ReadySlots,
    recently_closed::RecentlyClosed, schedule::Schedule, sent_rates::SentRates,
    serving_cost::ServingCost, tally::Tally, unsent::UnsentBudget,
};
use crate::{
    actors::{
        ClientInfo, Socket,
        log_reads::LogReads,
        peer::ReadyList,
        poll_times::PollTimes,
        shard::{
            slot::{Slot, Subscribed},
            slots::Slots,
        },
        slot_key::SlotKey,
        subscriber::Admission,
    },
    backend::EventStore,
    core::{CloseReason, ConnectionLimits, ConnectionMsg, Effect, Transport},
    model::{Closing, Epoch, LAST_CHUNK, PollAnswer, TransferCoding},
    telemetry::{Histogram, Metrics},
};

/// The connections of one shard and the rounds that serve them.
#[derive(Debug)]
pub struct Engine {
    pub(super) backend: Arc<EventStore>,
    /// The epoch of the log that its connections follow. When the log begins a new epoch, they are
    /// ended.
    pub(super) epoch: Epoch,
    /// With a log on disk.
    pub(super) log_reads: Option<Arc<LogReads>>,
    pub(super) poll_times: Arc<PollTimes>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: ConnectionLimits,
    pub(super) now_ms: u64,
    pub(super) slots: Slots<Slot>,
    /// The generation of the latest slot.
    pub(super) generation: u32,
    pub(super) extras: Extras,
    pub(super) sent_rates: SentRates,
    pub(super) fan_out: FanOut,
    pub(super) schedule: Schedule,
    pub(super) ready: ReadySlots,
    pub(super) serving_cost: ServingCost,
    pub(super) read_cache: ReadCache,
    pub(super) answers: AnswerCache,
    pub(super) unsent: UnsentBudget,
    pub(super) tally: Tally,
    pub(super) census: Census,
    /// The counter of answered polls, kept here since looking it up for every answer would cost
    /// time.
    answered: Counter,
    pub(super) closed: RecentlyClosed,
    returned: Vec<ReturnedSocket>,
    pub(super) drain: Option<Drain>,
    /// Senders to drop once all connections have ended.
    until_empty: Vec<oneshot::Sender<()>>,
    pub(super) random: fastrand::Rng,
    fault: PlantedFault,
    /// The slot up to which all connections have been ended.
    ended_to: usize,
    /// For tests: connections that ended since the last call, and why.
    #[cfg(test)]
    pub(in crate::actors::shard) ended: Vec<(u64, CloseReason)>,
}

/// A poll's socket after its answer, returned to the HTTP server.
#[derive(Debug)]
pub struct ReturnedSocket {
    /// The socket.
    pub io: Socket,
    /// Bytes already read from it.
    pub read_ahead: Bytes,
    /// Whether further requests may follow. If not, the end of the answer is still to be written.
    pub keep_alive: bool,
    /// The connection's permit as a poll. It is released only after the socket has its permit as a
    /// request connection: thousands of polls may be answered at once, and none must be uncounted
    /// in between.
    pub counted: (Admission, Option<Box<ClientInfo>>),
}

impl Engine {
    /// An engine without connections for shard `shard`; `seed` is that of its random jitter.
    pub fn new(
        backend: Arc<EventStore>,
        limits: ConnectionLimits,
        metrics: Arc<Metrics>,
        shard: usize,
        seed: u64,
        now_ms: u64,
    ) -> Self {
        Self {
            fan_out: FanOut::new(
                shard,
                backend.registry(),
                backend.head(),
                metrics.fan_out_seconds.clone(),
            ),
            unsent: UnsentBudget::new(&metrics, limits.unsent_bytes_max),
            answered: metrics.connections_closed.counter(CloseReason::Answered.as_str()),
            census: Census::new(&metrics.behind),
            epoch: backend.epoch(),
            backend,
            log_reads: None,
            poll_times: Arc::default(),
            metrics,
            limits,
            now_ms,
            slots: Slots::new(),
            generation: 0,
            extras: Extras::default(),
            sent_rates: SentRates::default(),
            schedule: Schedule::new(now_ms),
            ready: ReadySlots::default(),
            serving_cost: ServingCost::default(),
            read_cache: ReadCache::default(),
            answers: AnswerCache::default(),
            tally: Tally::default(),
            closed: RecentlyClosed::default(),
            returned: Vec::new(),
            drain: None,
            until_empty: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            fault: PlantedFault::NONE,
            ended_to: 0,
            #[cfg(test)]
            ended: Vec::new(),
        }
    }

    /// Lets it read history from a log on disk, if there is one.
    pub(crate) fn with_log_reads(mut self, log_reads: Option<Arc<LogReads>>) -> Self {
        self.log_reads = log_reads;
        self
    }

    /// Lets it note the times of answers to polls where the hub's drain finds them.
    pub(crate) fn with_poll_times(mut self, poll_times: Arc<PollTimes>) -> Self {
        self.poll_times = poll_times;
        self
    }

    /// How many connections it has.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The list of slots that peers have marked as ready.
    pub(crate) fn ready_list(&self) -> Arc<ReadyList> {
        Arc::clone(self.ready.list())
    }

    /// The histogram in which the loop of the shard observes the time of its passes.
    pub(in crate::actors::shard) fn pass_times(&self) -> Histogram {
        self.metrics.shard_turn_seconds.clone()
    }

    /// Whether no slot is ready.
    #[cfg(test)]
    pub(in crate::actors::shard) fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether work is left that no wake-up will announce: batches to hand out, rounds under way,
    /// slots and deadlines that did not fit into the last pass, a ceiling that is exceeded still.
    pub(in crate::actors::shard) fn has_more(&self) -> bool {
        self.ready.has_more()
            || self.schedule.has_overdue()
            || self.fan_out.has_work(self.now_ms)
            || self.unsent.must_free()
    }

    /// For tests: whether the shard's loop was woken; clears the wake-up.
    #[cfg(test)]
    pub(in crate::actors::shard) fn take_wake(&self) -> bool {
        self.ready.list().take_wake()
    }

    /// Whether a connection's start is still being searched for.
    #[cfg(test)]
    pub(in crate::actors::shard) fn is_searching_start(&self, key: SlotKey) -> bool {
        let slot = self.slots.get(key.index as usize);
        let slot = slot.filter(|slot| slot.generation == key.generation);
        let reader = slot.and_then(|slot| slot.reader.as_ref());
        reader.is_some_and(|reader| reader.is_searching_start())
    }

    /// Sockets of polls answered since the last call. Empty during a round of the mixed lane, so
    /// that all answers are written before the next request of any of these clients is read.
    pub fn take_returned(&mut self) -> Vec<ReturnedSocket> {
        if self.fan_out.is_in_mixed_round() {
            return Vec::new();
        }
        std::mem::take(&mut self.returned)
    }

    /// Drops `done` once there is no connection.
    pub(crate) fn when_empty(&mut self, done: oneshot::Sender<()>) {
        self.until_empty.push(done);
        self.drop_if_empty();
    }

    /// Drops the waiting senders if there is no connection, nor a socket of an answered poll that
    /// is still to be returned.
    pub(crate) fn drop_if_empty(&mut self) {
        if self.slots.is_empty() && self.returned.is_empty() {
            self.until_empty.clear();
        }
    }

    /// Ends one connection.
    pub fn close(&mut self, key: SlotKey, reason: CloseReason) {
        if self.slots.get(key.index as usize).is_some_and(|s| s.generation == key.generation) {
            self.finish(key.index, reason);
        }
    }

    /// Ends a bounded number of connections, since the histories are no longer those that they have
    /// read; true when none is left. Connections attached from then on follow the store's current
    /// epoch.
    pub fn end_some(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        // Continues where the last call ended: the slots before that are empty by now.
        let to = self.slots.capacity().min(self.ended_to + ENDS_AT_ONCE);
        let looked_at = self.ended_to..to;
        self.ended_to = if to == self.slots.capacity() { 0 } else { to };
        for index in looked_at {
            if self.slots.get(index).is_some() {
                self.finish(index as u32, CloseReason::LogChanged);
            }
        }
        let has_ended = self.slots.is_empty();
        if has_ended {
            (self.epoch, self.ended_to) = (self.backend.epoch(), 0);
        }
        has_ended
    }

    /// Makes the next step of some connection to `channel` panic; false without such a connection.
    pub fn plant_fault(&mut self, channel: &crate::model::ChannelName) -> bool {
        let found = self
            .slots
            .iter()
            .find(|(_, slot)| slot.subscriber.named().any(|entry| entry.name() == channel));
        if let Some((index, _)) = found {
            self.fault.plant(index as u32);
        }
        found.is_some()
    }

    /// Removes a planted fault.
    pub fn withdraw_fault(&mut self) {
        self.fault.withdraw();
    }

    /// Makes the start of the next connection panic.
    #[cfg(test)]
    pub(in crate::actors::shard) fn plant_fault_in_next(&mut self) {
        self.fault.plant(self.slots.vacant_key() as u32);
    }

    /// Schedules the next check of a slot.
    pub(super) fn schedule(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        self.schedule.enter(index, slot, self.now_ms, &self.limits);
    }

    /// Runs one step of a connection; a panic in it ends that connection.
    pub(super) fn guarded(&mut self, index: u32, step: impl FnOnce(&mut Self)) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.fault.strike(index);
            step(self);
        }));
        if outcome.is_err() {
            tracing::error!(slot = index, "a connection's step panicked; the connection is ended");
            self.finish(index, CloseReason::Panicked);
        }
    }

    /// Passes a message to a connection, and performs the effects.
    pub(super) fn step(&mut self, index: u32, msg: ConnectionMsg) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let effect = slot.connection.handle(msg, self.now_ms, &self.limits);
        self.perform(index, effect);
    }

    /// Performs an effect and those that follow from it. A connection with much history to read
    /// continues in a later pass.
    #[inline]
    pub(super) fn perform(&mut self, index: u32, effect: Effect) {
        match effect {
            // The effect of nearly all deliveries.
            Effect::None | Effect::Send => self.settle(index),
            effect => self.perform_all(index, effect),
        }
    }

    fn perform_all(&mut self, index: u32, mut effect: Effect) {
        loop {
            effect = match effect {
                Effect::None | Effect::Send => return self.settle(index),
                Effect::SendRest => self.send_rest(index),
                Effect::Read(after) => {
                    let Some(slot) = self.slots.get_mut(index as usize) else { return };
                    if slot.reads_left == 0 {
                        slot.reads_left = READS_PER_PASS;
                        return self.ready.put_off(index, slot);
                    }
                    slot.reads_left -= 1;
                    tracing::trace!(id = slot.subscriber.id(), after = after.0, "history is read");
                    self.serving_cost.add_read();
                    return self.read(index, after);
                }
                Effect::Skip { from } => self.skip(index, from),
                Effect::Heartbeat => return self.heartbeat(index),
                Effect::AnswerEmpty => {
                    let position = self.safe_position(index);
                    let answer = PollAnswer::nothing(position);
                    return self.answer(index, answer);
                }
                Effect::End(reason) => return self.finish(index, self.due_reason(index, reason)),
            };
        }
    }

    /// After a step: frees the state that only a connection that is BEHIND needs.
    fn settle(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.reads_left = READS_PER_PASS;
        if !slot.connection.is_behind() && slot.reader.take().is_some() {
            let (id, cursor) = (slot.subscriber.id(), slot.connection.cursor());
            tracing::trace!(id, through = cursor.0, "connection has all of history");
            self.extras.end_replay(index);
            // Its next heartbeat may be due before the stall check that was scheduled.
            self.schedule(index);
        }
    }

    /// Ends a connection: writes its closing block, removes it from all lists, closes its socket.
    pub(super) fn finish(&mut self, index: u32, reason: CloseReason) {
        let Some(mut slot) = self.slots.try_remove(index as usize) else { return };
        if slot.connection.rest().is_empty() {
            self.write_end(&mut slot, reason);
        }
        let moved = self.fan_out.unsubscribe(index, &slot.subscriber, slot.plain_index);
        if let Some(moved) = moved.and_then(|moved| self.slots.get_mut(moved as usize)) {
            moved.plain_index = slot.plain_index;
        }
        self.gauge(slot.connection.transport()).dec();
        if reason == CloseReason::Answered {
            self.answered.inc();
        } else {
            self.metrics.connections_closed.count(reason.as_str());
        }
        let (lease, client_info) = self.extras.remove(index);
        self.sent_rates.remove(index);
        if let Some(mut record) = self.extras.take_record(index) {
            let position = self.epoch.at(slot.connection.cursor()).to_string();
            record.answered(200, None);
            record.stream_ended(reason.as_str(), position);
        }
        // Answered polls are left out, since they would push more useful reports out of the ring.
        if reason != CloseReason::Answered {
            self.metrics.lag_at_close_events.observe(slot.connection.lag().0.into());
            let position = self.epoch.at(slot.connection.cursor());
            let end = (reason, self.now_ms);
            let (lease, client_info) = (lease.as_deref(), client_info.as_deref());
            self.closed.record(&slot, lease, client_info, position, end, &self.limits);
        }
        #[cfg(test)]
        self.ended.push((slot.subscriber.id(), reason));
        tracing::debug!(id = slot.subscriber.id(), reason = reason.as_str(), "connection ended");
        let keeps = slot.subscriber.ticket().is_some_and(|ticket| ticket.keep_alive);
        let keep_alive = keeps && self.drain.is_none();
        // A poll that an administrator ends is answered too.
        let is_out = slot.connection.is_ending() && slot.connection.rest().is_empty();
        let is_answered =
            reason == CloseReason::Answered || reason == CloseReason::EndedByAdmin && is_out;
        if is_answered
            && (keep_alive || slot.peer.must_flush_on_close())
            && let Some((io, read_ahead)) = slot.peer.into_socket()
            && let Subscribed::Full(full) = slot.subscriber
        {
            let counted = (full.subscriber.admission, client_info);
            self.returned.push(ReturnedSocket { io, read_ahead, counted, keep_alive });
        }
    }

    /// Writes the closing block of a stream. The last chunk is sent only to a client that should
    /// not reconnect: many clients stop for good after it, and reconnect without it
    /// (docs/adr/032-chunked-streams.md).
    fn write_end(&mut self, slot: &mut Slot, reason: CloseReason) {
        let Some(framing) = slot.subscriber.framing() else { return };
        let mut end = Vec::new();
        if reason.asks_to_reconnect() {
            let retry_ms = self.jittered_retry_ms();
            let closing =
                Closing { retry_ms, token: reason.token_word(), comment: reason.comment() };
            slot.coding.wrap(&mut end, |out| framing.closing(&closing, out));
        } else if reason == CloseReason::ChannelClosed && slot.coding == TransferCoding::Chunked {
            end.extend_from_slice(LAST_CHUNK);
        }
        if !end.is_empty() {
            let mut taken = 0;
            let _ = slot.peer.write_all(&Bytes::from(end), &mut taken);
            slot.sent_bytes += taken as u64;
        }
    }

    pub(super) fn gauge(&self, transport: Transport) -> &prometheus_client::metrics::gauge::Gauge {
        match transport {
            Transport::Stream => &self.metrics.streams,
            Transport::Poll => &self.metrics.pollers,
        }
    }

    pub(super) fn jittered_retry_ms(&mut self) -> u32 {
        self.random.u32(self.limits.retry_min_ms..=self.limits.retry_max_ms)
    }
}

impl Drop for Engine {
    /// The connections of a shard that ends, also by a crash, are no longer counted.
    fn drop(&mut self) {
        self.set_gather_ms(0);
        for (_, slot) in self.slots.iter() {
            self.gauge(slot.connection.transport()).dec();
            let reason = CloseReason::ShardEnded.as_str();
            self.metrics.connections_closed.count(reason);
        }
    }
}

/// Reads of history that a connection may do in one pass.
pub(super) const READS_PER_PASS: u8 = if cfg!(test) { 2 } else { 4 };
/// Slots whose connections are ended in one step of the shard.
const ENDS_AT_ONCE: usize = 256;
