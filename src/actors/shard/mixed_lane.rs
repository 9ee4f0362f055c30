//! The lane of all connections that are not plain streams of one channel: those with several
//! channels, patterns, type filters or another framing, and polls.
//!
//! They share one lane in log order, so each receives its events in that order. A round gathers far
//! more events than one send has, since any one connection receives few of them. A connection gets
//! its events of a round in one send. If they exceed the size of a send, the round walks over the
//! connections that have more to receive again, with one send for each.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::{
    lane::ROUND,
    round_queue::{RoundBounds, RoundQueue},
    round_trace::RoundTrace,
    sets::ChannelSets,
};
use crate::{
    actors::{batch::Batch, payload::Payload, subscriber::Shape},
    backend::ChannelId,
    model::{Event, PollReply, Seq},
};

/// The lane.
#[derive(Debug)]
pub(super) struct MixedLane {
    queue: RoundQueue,
    round: Option<MixedRound>,
    /// For each slot, the set of the round's channels that it receives. All are empty between
    /// rounds.
    sets: Vec<u32>,
}

/// The sends to all connections that receive any channel of the round.
#[derive(Debug)]
pub(super) struct MixedRound {
    first: Seq,
    last: Seq,
    /// In log order.
    events: Vec<Arc<Event>>,
    /// For each channel, the indexes of its events; empty if the round has one channel.
    event_indexes: Vec<SmallVec<[u32; 4]>>,
    /// The sets of channels that connections receive.
    sets: ChannelSets,
    /// The slots of the current walk, and the next of them.
    due: Vec<Due>,
    next: usize,
    /// The slots with further sends, for the next walk.
    due_again: Vec<Due>,
    /// Sends by set, offset and shape, shared by all connections that receive the same bytes.
    sends: HashMap<(u32, u32, usize), MixedSend, FxBuildHasher>,
    sends_bytes: usize,
    batches: Vec<Arc<Batch>>,
    /// For a round with a traced event: recorded when the round is dropped.
    trace: Option<Box<RoundTrace>>,
}

/// A slot that has more to receive, and the number of events that it has been sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) slot: u32,
    sent: u32,
}

/// A send of a mixed round.
#[derive(Debug, Clone)]
pub(super) struct MixedSend {
    pub(super) payload: Arc<Payload>,
    /// The range of the log that the send covers for these connections.
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// The answer of a poll, encoded when the first poll needs it.
    pub(super) reply: Option<Arc<PollReply>>,
    /// The number of events that the connections have been sent, this send included, if the round
    /// has more for them.
    more_after: Option<u32>,
    /// Keeps the shape alive, since its address is part of the key.
    _shape: Arc<Shape>,
}

impl Default for MixedLane {
    fn default() -> Self {
        Self { queue: RoundQueue::new(MIXED_ROUND), round: None, sets: Vec::new() }
    }
}

impl MixedLane {
    /// Whether there is neither a round nor a queued batch.
    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none() && self.queue.is_empty()
    }

    /// How long a batch that comes now will wait beyond the round under way, in milliseconds.
    pub(super) fn delay_ms(&self, now_ms: u64) -> u64 {
        // Before the first send of a walk the elapsed time says nothing about the sends.
        let progress = match &self.round {
            Some(round) if round.next > 0 => (round.next, round.due.len()),
            _ => (0, 0),
        };
        self.queue.delay_ms(now_ms, progress)
    }

    /// Queues a batch.
    pub(super) fn push(&mut self, batch: Arc<Batch>) {
        self.queue.push_batch(batch);
    }

    /// Whether a round is under way.
    pub(super) fn has_round(&self) -> bool {
        self.round.is_some()
    }

    /// Takes the round out to make sends, and to be given back with
    /// [`return_round`](Self::return_round). All slots are added.
    pub(super) fn take_round(&mut self, now_ms: u64) -> Option<MixedRound> {
        let round = self.round.take()?;
        // Each walk is counted by itself: the time before it is not that of its sends.
        if round.next == 0 {
            self.queue.begin_sends(now_ms);
        }
        Some(round)
    }

    /// Puts the round back; false if it is over.
    pub(super) fn return_round(&mut self, mut round: MixedRound) -> bool {
        if round.next == round.due.len() {
            (round.due, round.next) = (mem::take(&mut round.due_again), 0);
        }
        if round.due.is_empty() {
            self.queue.end_round();
            return false;
        }
        self.round = Some(round);
        true
    }

    /// Makes room for the sets of so many slots.
    pub(super) fn reserve_sets(&mut self, slots: usize) {
        if self.sets.len() < slots {
            self.sets.resize(slots, ChannelSets::EMPTY);
        }
    }

    /// Adds a channel of the new round to the set of a slot.
    pub(super) fn add_due(&mut self, slot: u32, channel: u32) {
        let Some(round) = &mut self.round else { return };
        let set = &mut self.sets[slot as usize];
        if *set == ChannelSets::EMPTY {
            round.due.push(Due { slot, sent: 0 });
        }
        *set = round.sets.with(*set, channel);
    }

    /// Begins the trace of the new round, if an event of it is traced and `is_sent` to a
    /// connection. All slots are added.
    pub(super) fn trace_round(&mut self, shard: usize, is_sent: impl FnMut(ChannelId) -> bool) {
        let Some(round) = &mut self.round else { return };
        let connections = round.due.len();
        round.trace = RoundTrace::begin((shard, "mixed"), &round.batches, connections, is_sent);
    }

    /// The set of channels that a slot receives; empty if its connection has ended.
    #[inline]
    pub(super) fn set(&self, slot: u32) -> u32 {
        self.sets[slot as usize]
    }

    /// Empties the set of a slot.
    #[inline]
    pub(super) fn clear_set(&mut self, slot: u32) {
        if let Some(set) = self.sets.get_mut(slot as usize) {
            *set = ChannelSets::EMPTY;
        }
    }

    /// Begins a round of the queued batches, up to the limits of a round. Returns one run of each
    /// of its channels; the caller [adds](Self::add_due) the slots that receive the channel.
    pub(super) fn begin(&mut self, now_ms: u64) -> Option<Vec<(Arc<Batch>, usize)>> {
        let batches = self.queue.begin_round(now_ms, |waiting| waiting.batch);
        let (first, last) = (batches.first()?.first(), batches.last()?.last());
        let Gathered { channels, events, event_indexes } = Gathered::of(&batches);
        self.round = Some(MixedRound {
            first,
            last,
            events,
            event_indexes,
            sets: ChannelSets::new(),
            due: Vec::new(),
            next: 0,
            due_again: Vec::new(),
            sends: HashMap::default(),
            sends_bytes: 0,
            batches,
            trace: None,
        });
        Some(channels)
    }
}

/// The contents of a round's batches.
struct Gathered {
    /// One run of each channel, as batch and index.
    channels: Vec<(Arc<Batch>, usize)>,
    events: Vec<Arc<Event>>,
    event_indexes: Vec<SmallVec<[u32; 4]>>,
}

impl Gathered {
    fn of(batches: &[Arc<Batch>]) -> Self {
        // The usual case with little load, which needs no table.
        if let [batch] = batches
            && let [run] = batch.runs()
        {
            let channels = vec![(Arc::clone(batch), 0)];
            return Self { channels, events: run.events.clone(), event_indexes: Vec::new() };
        }
        let mut numbers: FxHashMap<ChannelId, u32> = FxHashMap::default();
        let mut channels = Vec::new();
        let mut events: Vec<(u32, Arc<Event>)> = Vec::new();
        for batch in batches {
            for (index, run) in batch.runs().iter().enumerate() {
                let next = channels.len() as u32;
                let number = *numbers.entry(run.entry.id()).or_insert(next);
                if number == next {
                    channels.push((Arc::clone(batch), index));
                }
                events.extend(run.events.iter().map(|event| (number, Arc::clone(event))));
            }
        }
        events.sort_unstable_by_key(|(_, event)| event.seq);
        // With a single channel every connection receives all events, so no indexes are needed.
        let mut event_indexes = Vec::new();
        if channels.len() > 1 {
            event_indexes.resize(channels.len(), SmallVec::new());
            for (index, (number, _)) in events.iter().enumerate() {
                event_indexes[*number as usize].push(index as u32);
            }
        }
        let events = events.into_iter().map(|(_, event)| event).collect();
        Self { channels, events, event_indexes }
    }
}

impl MixedRound {
    /// How long ago its first events were shown.
    pub(super) fn since_shown(&self) -> Option<Duration> {
        Some(self.batches.first()?.since_shown())
    }

    /// Its first and last seq.
    pub(super) fn range(&self) -> (Seq, Seq) {
        (self.first, self.last)
    }

    /// The next slots of the current walk, at most so many.
    pub(super) fn next_slots(&self, slots_max: usize) -> impl Iterator<Item = u32> {
        self.due[self.next..].iter().take(slots_max).map(|due| due.slot)
    }

    /// The next slot of the current walk.
    #[inline]
    pub(super) fn next_due(&mut self) -> Option<Due> {
        let due = self.due.get(self.next).copied()?;
        self.next += 1;
        Some(due)
    }

    /// The next send for connections with this set of channels and this shape that have been sent
    /// `due.sent` events of the round.
    pub(super) fn send(&mut self, set: u32, due: Due, shape: &Arc<Shape>) -> MixedSend {
        let key = (set, due.sent, Arc::as_ptr(shape) as usize);
        if let Some(send) = self.sends.get(&key) {
            return send.clone();
        }
        let send = self.make_send(self.wanted(set), due.sent, shape);
        // Past the memory limit a send is used for one connection and not kept.
        if self.sends_bytes < SENDS_BYTES_MAX {
            self.sends_bytes += send.payload.len();
            self.sends.insert(key, send.clone());
        }
        send
    }

    /// Queues a slot for the next walk if it has more events in the round after this send; true if
    /// so.
    #[inline]
    pub(super) fn continue_later(&mut self, due: Due, send: &MixedSend) -> bool {
        let Some(sent) = send.more_after else { return false };
        self.due_again.push(Due { sent, ..due });
        true
    }

    /// Makes the send of a set's events after the first `sent`.
    fn make_send(&self, mut events: Vec<Arc<Event>>, sent: u32, shape: &Arc<Shape>) -> MixedSend {
        let total = events.len();
        if sent > 0 {
            events.drain(..sent as usize);
        }
        let fits = self.fitting(&events);
        let more_after = (fits < events.len()).then_some(sent + fits as u32);
        let first = match sent {
            0 => self.first,
            _ => events.first().map_or(self.first, |event| event.seq),
        };
        debug_assert!(fits > 0 || total == 0);
        events.truncate(fits);
        let last = match (more_after, events.last()) {
            (Some(_), Some(last)) => last.seq,
            _ => self.last,
        };
        let payload = Arc::new(Payload::new(events, shape));
        MixedSend { payload, first, last, reply: None, more_after, _shape: Arc::clone(shape) }
    }

    /// How many of these events go into one send. A batch is never divided.
    fn fitting(&self, events: &[Arc<Event>]) -> usize {
        if self.batches.len() == 1 {
            return events.len();
        }
        let mut bytes = 0;
        let mut whole = 0;
        for batch in &self.batches {
            let from = whole;
            let through = from + events[from..].partition_point(|event| event.seq <= batch.last());
            bytes += events[from..through].iter().map(|event| event.bytes().len()).sum::<usize>();
            if whole > 0 && (through > ROUND.events || bytes > ROUND.bytes) {
                break;
            }
            whole = through;
            if whole == events.len() {
                break;
            }
        }
        whole
    }

    /// The events of a set, in log order.
    fn wanted(&self, set: u32) -> Vec<Arc<Event>> {
        if self.event_indexes.is_empty() && set != ChannelSets::EMPTY {
            return self.events.clone();
        }
        let channels = self.sets.channels(set);
        let mut event_indexes: Vec<u32> =
            channels.flat_map(|channel| &self.event_indexes[channel as usize]).copied().collect();
        event_indexes.sort_unstable();
        event_indexes.iter().map(|&index| Arc::clone(&self.events[index as usize])).collect()
    }

    /// Keeps a poll's answer for other polls, within the memory limit.
    pub(super) fn keep_reply(
        &mut self,
        set: u32,
        due: Due,
        shape: &Arc<Shape>,
        reply: Arc<PollReply>,
    ) {
        if self.sends_bytes < SENDS_BYTES_MAX
            && let Some(send) = self.sends.get_mut(&(set, due.sent, Arc::as_ptr(shape) as usize))
        {
            self.sends_bytes += reply.body.len();
            send.reply = Some(reply);
        }
    }
}

/// The limits of a round: about sixteen sends for a connection that receives all of it.
const MIXED_ROUND: RoundBounds = RoundBounds { events: 16 * ROUND.events, bytes: 16 * ROUND.bytes };
/// Bytes of the sends that a mixed round keeps for connections that receive the same.
const SENDS_BYTES_MAX: usize = 4 * 1024 * 1024;
