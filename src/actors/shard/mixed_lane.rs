//! The lane of all connections that are not plain streams of one channel: several channels,
//! patterns, filters, other forms, polls.
//!
//! They share one lane, in log order, so none of them is ever overtaken. A round gathers far more than one send:
//! few of its events are for any one connection. What a round has for a connection goes out in one
//! send, or in several of a bounded size, one in each walk over the connections that are due.

use std::{collections::HashMap, mem, sync::Arc};

use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::{
    lane::ROUND,
    round_queue::{RoundBounds, RoundQueue},
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
    /// By slot: the set of the round's channels that it receives. All empty between rounds.
    sets: Vec<u32>,
}

/// The sends to all connections that receive any channel of the round.
#[derive(Debug)]
pub(super) struct MixedRound {
    first: Seq,
    last: Seq,
    /// In log order.
    events: Vec<Arc<Event>>,
    /// By channel: where its events are; nothing if there is one channel only.
    event_indexes: Vec<SmallVec<[u32; 4]>>,
    /// What the connections receive.
    sets: ChannelSets,
    /// The slots of this walk, and how far it has come.
    due: Vec<Due>,
    next: usize,
    /// The slots that receive more in the next walk.
    due_again: Vec<Due>,
    /// Sends made so far, by what they hold: shared by all connections that receive the same.
    sends: HashMap<(u32, u32, usize), MixedSend, FxBuildHasher>,
    sends_bytes: usize,
    batches: Vec<Arc<Batch>>,
}

/// A slot, and how many of its events it has been sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) slot: u32,
    sent: u32,
}

/// A send of a mixed round.
#[derive(Debug, Clone)]
pub(super) struct MixedSend {
    pub(super) payload: Arc<Payload>,
    /// The part of the log that it is for these connections.
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// A poll's answer, made when the first poll needs it.
    pub(super) reply: Option<Arc<PollReply>>,
    /// How many of the round's events they have been sent with it, if there are more.
    more_after: Option<u32>,
    /// Keeps the shape alive whose address is the key.
    _shape: Arc<Shape>,
}

impl Default for MixedLane {
    fn default() -> Self {
        Self { queue: RoundQueue::new(MIXED_ROUND), round: None, sets: Vec::new() }
    }
}

impl MixedLane {
    /// Whether it has neither a round nor a batch.
    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none() && self.queue.is_empty()
    }

    /// How long a batch that comes now will wait beyond the round under way, in milliseconds.
    pub(super) fn delay_ms(&self, now_ms: u64) -> u64 {
        let progress = self.round.as_ref().map_or((0, 0), |round| (round.next, round.due.len()));
        self.queue.delay_ms(now_ms, progress)
    }

    /// Takes a batch.
    pub(super) fn push(&mut self, batch: Arc<Batch>) {
        self.queue.push_batch(batch);
    }

    /// Whether a round is under way.
    pub(super) fn has_round(&self) -> bool {
        self.round.is_some()
    }

    /// Takes the round under way.
    pub(super) fn take_round(&mut self) -> Option<MixedRound> {
        self.round.take()
    }

    /// Gives the round back; false if it is over.
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

    /// A slot receives a channel of the round that begins.
    pub(super) fn add_due(&mut self, slot: u32, channel: u32) {
        let Some(round) = &mut self.round else { return };
        let set = &mut self.sets[slot as usize];
        if *set == ChannelSets::EMPTY {
            round.due.push(Due { slot, sent: 0 });
        }
        *set = round.sets.with(*set, channel);
    }

    /// The set of channels that a slot is due; empty if its connection has ended.
    #[inline]
    pub(super) fn set(&self, slot: u32) -> u32 {
        self.sets[slot as usize]
    }

    /// A slot is due no channel from now on.
    #[inline]
    pub(super) fn clear_set(&mut self, slot: u32) {
        if let Some(set) = self.sets.get_mut(slot as usize) {
            *set = ChannelSets::EMPTY;
        }
    }

    /// Gathers what waits, up to the bounds of a round; gives its channels, each by a run of it,
    /// for the caller to [add](Self::add_due) the slots that receive them, `slots` at most.
    pub(super) fn begin(&mut self, slots: usize, now_ms: u64) -> Option<Vec<(Arc<Batch>, usize)>> {
        let batches = self.queue.begin_round(now_ms, |waiting| waiting.batch);
        let (first, last) = (batches.first()?.first(), batches.last()?.last());
        let Gathered { channels, events, event_indexes } = Gathered::of(&batches);
        self.sets.resize(slots.max(self.sets.len()), ChannelSets::EMPTY);
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
        });
        Some(channels)
    }
}

/// What the batches of a round hold.
struct Gathered {
    /// The channels, each by a run of it.
    channels: Vec<(Arc<Batch>, usize)>,
    events: Vec<Arc<Event>>,
    event_indexes: Vec<SmallVec<[u32; 4]>>,
}

impl Gathered {
    fn of(batches: &[Arc<Batch>]) -> Self {
        // Most rounds of a hub at rest, and they need no table.
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
        // A connection that receives anything of a single channel receives all of it.
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
    /// The next slot of the walk.
    #[inline]
    pub(super) fn next_due(&mut self) -> Option<Due> {
        let due = self.due.get(self.next).copied()?;
        self.next += 1;
        Some(due)
    }

    /// What connections of this set of channels and this shape are sent that have been sent as much
    /// as `due` says.
    pub(super) fn send(&mut self, set: u32, due: Due, shape: &Arc<Shape>) -> MixedSend {
        let key = (set, due.sent, Arc::as_ptr(shape) as usize);
        if let Some(send) = self.sends.get(&key) {
            return send.clone();
        }
        let send = self.make_send(self.wanted(set), due.sent, shape);
        // Past the bound a send is made for one connection and dropped.
        if self.sends_bytes < SENDS_BYTES_MAX {
            self.sends_bytes += send.payload.len();
            self.sends.insert(key, send.clone());
        }
        send
    }

    /// Whether a slot that was made this send receives more of the round; it does in the next walk.
    #[inline]
    pub(super) fn continue_later(&mut self, due: Due, send: &MixedSend) -> bool {
        let Some(sent) = send.more_after else { return false };
        self.due_again.push(Due { sent, ..due });
        true
    }

    /// The send of those of a set's events that come after the first `sent`.
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

    /// How many of these events one send takes. A batch is never divided: its size is what a slow
    /// connection may lag.
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

    /// Keeps a poll's answer for the others, if the bound on what is kept lets it.
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

/// What a round gathers: some sixteen sends to a connection that receives all of it.
const MIXED_ROUND: RoundBounds = RoundBounds { events: 16 * ROUND.events, bytes: 16 * ROUND.bytes };
/// Bytes of the sends that a mixed round keeps for connections that receive the same.
const SENDS_BYTES_MAX: usize = 4 * 1024 * 1024;
