//! The fan-out in rounds: while one is under way, new events gather; the next is one send to each
//! subscriber.
//!
//! Large channels have a lane of their own, walked a slice at a time, so that small channels and
//! registrations go ahead. Connections that are not plain streams of one channel share one lane,
//! in log order, so none of them is ever overtaken.

use std::{
    collections::{HashMap, VecDeque},
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
    pub(super) waiting: VecDeque<(Arc<Batch>, usize)>,
    pub(super) round: Option<PlainRound>,
}

/// One send to each plain stream of a channel.
#[derive(Debug)]
pub(super) struct PlainRound {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) payload: Arc<Payload>,
    /// The next index of the list, and where it ended when the round began.
    pub(super) next: usize,
    pub(super) end: usize,
    /// They keep their permits until the round is through.
    _batches: Vec<Arc<Batch>>,
}

impl Lane {
    /// Gathers what waits, up to the bounds of a round.
    pub(super) fn begin(&mut self, plain_count: usize, shape: &Shape) -> bool {
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
            return false;
        }
        let payload = Arc::new(Payload::new(events, shape));
        self.round =
            Some(PlainRound { first, last, payload, next: 0, end: plain_count, _batches: batches });
        true
    }
}

/// The lane of all connections with several channels, patterns, filters, other forms, or polls.
#[derive(Debug, Default)]
pub(super) struct MixedLane {
    pub(super) waiting: VecDeque<Arc<Batch>>,
    pub(super) round: Option<MixedRound>,
    /// By slot: the set of the round's channels that it receives. All empty between rounds.
    pub(super) sets: Vec<u32>,
}

/// One send to each connection that receives any channel of the round.
#[derive(Debug)]
pub(super) struct MixedRound {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// In log order.
    events: Vec<Arc<Event>>,
    /// By channel: where its events are; nothing if there is one channel only.
    event_indexes: Vec<SmallVec<[u32; 4]>>,
    /// What the connections receive.
    pub(super) sets: ChannelSets,
    /// The slots that receive something, and how far the walk has come.
    pub(super) due: Vec<u32>,
    pub(super) next: usize,
    /// Sends made so far, by what they hold: shared by all who receive the same.
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
    /// Gathers what waits, up to the bounds of a round; gives its channels, each by a run of it,
    /// for the caller to fill in who receives them.
    pub(super) fn begin(&mut self) -> Option<Vec<(Arc<Batch>, usize)>> {
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
        events.sort_unstable_by_key(|(_, event)| event.seq);
        // Who receives anything of a single channel receives all of it.
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
    /// What connections of this set of channels and this shape are sent.
    pub(super) fn send(&mut self, set: u32, shape: &Arc<Shape>) -> MixedSend {
        let key = (set, Arc::as_ptr(shape) as usize);
        if let Some(send) = self.sends.get(&key) {
            return send.clone();
        }
        let payload = Arc::new(Payload::new(self.wanted(set), shape));
        let send = MixedSend { payload, reply: None, _shape: Arc::clone(shape) };
        // Past the bound a send is made for one connection and forgotten.
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

    /// Keeps a poll's answer for the others.
    pub(super) fn keep_reply(&mut self, set: u32, shape: &Arc<Shape>, reply: Arc<PollReply>) {
        if let Some(send) = self.sends.get_mut(&(set, Arc::as_ptr(shape) as usize)) {
            send.reply = Some(reply);
        }
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Events gathered into one round.
pub(super) const ROUND_EVENTS_MAX: usize = if cfg!(test) { 6 } else { 256 };
/// Frame bytes gathered into one round: no more than a socket takes at once.
pub(super) const ROUND_BYTES_MAX: usize = if cfg!(test) { 1_000 } else { 48 * 1024 };
/// Bytes of the sends that a mixed round keeps for those who receive the same.
const SENDS_BYTES_MAX: usize = 4 * 1024 * 1024;
