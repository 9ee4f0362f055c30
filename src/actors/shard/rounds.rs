//! The fan-out in rounds: while one is under way, new events gather; the next is one send to each
//! subscriber.
//!
//! Large channels have a lane of their own, walked a slice at a time, so that small channels and
//! registrations wait for a slice and not for a round. Connections that are not plain streams of one channel share one lane,
//! in log order, so none of them is ever overtaken.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::sets::ChannelSets;
use crate::{
    actors::{
        batch::{Batch, Run},
        payload::Payload,
        subscriber::Shape,
    },
    backend::ChannelId,
    model::{Event, PollReply, Seq},
};

/// The lane of one large channel.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Batches that wait, each with the run that is this channel's.
    waiting: VecDeque<(Arc<Batch>, usize)>,
    round: Option<PlainRound>,
}

/// One send to each plain stream of a channel.
#[derive(Debug)]
pub(super) struct PlainRound {
    first: Seq,
    last: Seq,
    payload: Arc<Payload>,
    /// The next index of the list, and where it ended when the round began.
    next: usize,
    end: usize,
    /// They keep their permits until the round is through.
    _batches: Vec<Arc<Batch>>,
}

impl Lane {
    /// Whether it has neither a round nor a batch.
    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none() && self.waiting.is_empty()
    }

    /// Takes a batch, and the run in it that is this channel's.
    pub(super) fn push(&mut self, batch: Arc<Batch>, run: usize) {
        self.waiting.push_back((batch, run));
    }

    /// The round under way, or a new one of what waits; nothing if nothing does.
    pub(super) fn round(&mut self, plain_count: usize, shape: &Shape) -> Option<&mut PlainRound> {
        if self.round.is_none() {
            self.round = self.begin(plain_count, shape);
        }
        self.round.as_mut()
    }

    /// The round is through; true if another waits.
    pub(super) fn end_round(&mut self) -> bool {
        self.round = None;
        !self.waiting.is_empty()
    }

    /// Gathers what waits, up to the bounds of a round.
    fn begin(&mut self, plain_count: usize, shape: &Shape) -> Option<PlainRound> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut batches = Vec::new();
        let mut bytes = 0;
        let (mut first, mut last) = (Seq::ZERO, Seq::ZERO);
        while let Some((batch, run)) = self.waiting.front() {
            let run: &Run = &batch.runs()[*run];
            let run_bytes = run.bytes();
            if !events.is_empty()
                && (events.len() + run.events.len() > ROUND_EVENTS_MAX
                    || bytes + run_bytes > ROUND_BYTES_MAX)
            {
                break;
            }
            if events.is_empty() {
                first = batch.first();
            }
            last = batch.last();
            bytes += run_bytes;
            events.extend(run.events.iter().cloned());
            batches.extend(self.waiting.pop_front().map(|(batch, _)| batch));
        }
        if events.is_empty() {
            return None;
        }
        let payload = Arc::new(Payload::new(events, shape));
        Some(PlainRound { first, last, payload, next: 0, end: plain_count, _batches: batches })
    }
}

impl PlainRound {
    /// First seq of the round.
    pub(super) fn first(&self) -> Seq {
        self.first
    }

    /// Last seq of the round.
    pub(super) fn last(&self) -> Seq {
        self.last
    }

    /// What each is sent.
    pub(super) fn payload(&self) -> &Arc<Payload> {
        &self.payload
    }

    /// The indexes of the next sends.
    pub(super) fn next_slice(&mut self, sends_max: usize) -> Range<usize> {
        let from = self.next;
        self.next = (from + sends_max).min(self.end);
        from..self.next
    }

    /// Whether it has no further slice.
    pub(super) fn is_over(&self) -> bool {
        self.next >= self.end
    }
}

/// The lane of all connections with several channels, patterns, filters, other forms, or polls.
#[derive(Debug, Default)]
pub(super) struct MixedLane {
    waiting: VecDeque<Arc<Batch>>,
    round: Option<MixedRound>,
    /// By slot: the set of the round's channels that it receives. All empty between rounds.
    sets: Vec<u32>,
}

/// One send to each connection that receives any channel of the round.
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
    /// The slots that receive something, and how far the walk has come.
    due: Vec<u32>,
    next: usize,
    /// Sends made so far, by what they hold: shared by all connections that receive the same.
    sends: HashMap<(u32, usize), MixedSend, FxBuildHasher>,
    sends_bytes: usize,
    _batches: Vec<Arc<Batch>>,
}

/// A send of a mixed round.
#[derive(Debug, Clone)]
pub(super) struct MixedSend {
    pub(super) payload: Arc<Payload>,
    /// A poll's answer, made when the first poll needs it.
    pub(super) reply: Option<Arc<PollReply>>,
    /// Keeps the shape alive whose address is the key.
    _shape: Arc<Shape>,
}

impl MixedLane {
    /// Whether it has neither a round nor a batch.
    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none() && self.waiting.is_empty()
    }

    /// Takes a batch.
    pub(super) fn push(&mut self, batch: Arc<Batch>) {
        self.waiting.push_back(batch);
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
    pub(super) fn return_round(&mut self, round: MixedRound) -> bool {
        if round.next < round.due.len() {
            self.round = Some(round);
        }
        self.round.is_some()
    }

    /// A slot receives a channel of the round that begins.
    pub(super) fn add_due(&mut self, slot: u32, channel: u32) {
        let Some(round) = &mut self.round else { return };
        let set = &mut self.sets[slot as usize];
        if *set == ChannelSets::EMPTY {
            round.due.push(slot);
        }
        *set = round.sets.with(*set, channel);
    }

    /// The set of channels that a slot is due; it is due none from now on.
    #[inline]
    pub(super) fn take_set(&mut self, slot: u32) -> u32 {
        std::mem::take(&mut self.sets[slot as usize])
    }

    /// The connection of a slot has ended.
    #[inline]
    pub(super) fn clear_set(&mut self, slot: u32) {
        if let Some(set) = self.sets.get_mut(slot as usize) {
            *set = ChannelSets::EMPTY;
        }
    }

    /// Gathers what waits, up to the bounds of a round; gives its channels, each by a run of it,
    /// for the caller to [add](Self::add_due) the slots that receive them, `slots` at most.
    pub(super) fn begin(&mut self, slots: usize) -> Option<Vec<(Arc<Batch>, usize)>> {
        let mut numbers: FxHashMap<ChannelId, u32> = FxHashMap::default();
        let mut channels = Vec::new();
        let mut batches: Vec<Arc<Batch>> = Vec::new();
        let mut events: Vec<(u32, Arc<Event>)> = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = self.waiting.front() {
            let batch_bytes: usize = batch.runs().iter().map(Run::bytes).sum();
            if !batches.is_empty()
                && (bytes + batch_bytes > ROUND_BYTES_MAX || events.len() > ROUND_EVENTS_MAX)
            {
                break;
            }
            bytes += batch_bytes;
            for (index, run) in batch.runs().iter().enumerate() {
                let next = channels.len() as u32;
                let number = *numbers.entry(run.entry.id()).or_insert(next);
                if number == next {
                    channels.push((Arc::clone(batch), index));
                }
                events.extend(run.events.iter().map(|event| (number, Arc::clone(event))));
            }
            batches.extend(self.waiting.pop_front());
        }
        let (first, last) = (batches.first()?.first(), batches.last()?.last());
        self.sets.resize(slots.max(self.sets.len()), ChannelSets::EMPTY);
        events.sort_unstable_by_key(|(_, event)| event.seq);
        // A connection that receives anything of a single channel receives all of it.
        let mut event_indexes = Vec::new();
        if channels.len() > 1 {
            event_indexes.resize(channels.len(), SmallVec::new());
            for (index, (number, _)) in events.iter().enumerate() {
                event_indexes[*number as usize].push(index as u32);
            }
        }
        self.round = Some(MixedRound {
            first,
            last,
            events: events.into_iter().map(|(_, event)| event).collect(),
            event_indexes,
            sets: ChannelSets::new(),
            due: Vec::new(),
            next: 0,
            sends: HashMap::default(),
            sends_bytes: 0,
            _batches: batches,
        });
        Some(channels)
    }
}

impl MixedRound {
    /// First seq of the round.
    pub(super) fn first(&self) -> Seq {
        self.first
    }

    /// Last seq of the round.
    pub(super) fn last(&self) -> Seq {
        self.last
    }

    /// The next slot that receives something.
    #[inline]
    pub(super) fn next_due(&mut self) -> Option<u32> {
        let slot = self.due.get(self.next).copied()?;
        self.next += 1;
        Some(slot)
    }

    /// What connections of this set of channels and this shape are sent.
    pub(super) fn send(&mut self, set: u32, shape: &Arc<Shape>) -> MixedSend {
        let key = (set, Arc::as_ptr(shape) as usize);
        if let Some(send) = self.sends.get(&key) {
            return send.clone();
        }
        let payload = Arc::new(Payload::new(self.wanted(set), shape));
        let send = MixedSend { payload, reply: None, _shape: Arc::clone(shape) };
        // Past the bound a send is made for one connection and dropped.
        if self.sends_bytes < SENDS_BYTES_MAX {
            self.sends_bytes += send.payload.bytes().len();
            self.sends.insert(key, send.clone());
        }
        send
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
    pub(super) fn keep_reply(&mut self, set: u32, shape: &Arc<Shape>, reply: Arc<PollReply>) {
        if self.sends_bytes < SENDS_BYTES_MAX
            && let Some(send) = self.sends.get_mut(&(set, Arc::as_ptr(shape) as usize))
        {
            self.sends_bytes += reply.body.len();
            send.reply = Some(reply);
        }
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Events gathered into one round.
pub(super) const ROUND_EVENTS_MAX: usize = if cfg!(test) { 6 } else { 256 };
/// Frame bytes gathered into one round: no more than a socket takes at once.
pub(super) const ROUND_BYTES_MAX: usize = if cfg!(test) { 1_000 } else { 48 * 1024 };
/// Bytes of the sends that a mixed round keeps for connections that receive the same.
const SENDS_BYTES_MAX: usize = 4 * 1024 * 1024;
