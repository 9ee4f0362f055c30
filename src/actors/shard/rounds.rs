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
    /// The next place in the list, and where it ended when the round began.
    pub(super) next: usize,
    pub(super) end: usize,
    /// They keep their permits until the round is through.
    _batches: Vec<Arc<Batch>>,
}

impl Lane {
    /// Gathers what waits, up to the bounds of a round.
    pub(super) fn begin(&mut self, places: usize, shape: &Shape) -> bool {
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
            Some(PlainRound { first, last, payload, next: 0, end: places, _batches: batches });
        true
    }
}

/// The lane of all connections with several channels, patterns, filters, other forms, or polls.
#[derive(Debug, Default)]
pub(super) struct MixedLane {
    pub(super) waiting: VecDeque<Arc<Batch>>,
    pub(super) round: Option<MixedRound>,
    /// By slot: the channels of the round that it receives, a bit each. All zero between rounds.
    pub(super) masks: Vec<u64>,
}

/// One send to each connection that receives any channel of the round.
#[derive(Debug)]
pub(super) struct MixedRound {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// In log order, each with the bit of its channel.
    events: Vec<(u8, Arc<Event>)>,
    /// The slots that receive something, and how far the walk has come.
    pub(super) due: Vec<u32>,
    pub(super) next: usize,
    /// Sends made so far, by what they hold: shared by all who receive the same.
    sends: HashMap<(u64, usize), MixedSend, FxBuildHasher>,
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
    /// Gathers what waits, up to the bounds of a round; gives the channels in the order of their
    /// bits, for the caller to fill in `due`.
    pub(super) fn begin(&mut self) -> Option<Vec<(u8, usize, Arc<Batch>)>> {
        let mut bits: FxHashMap<ChannelId, u8> = FxHashMap::default();
        let mut channels = Vec::new();
        let mut batches: Vec<Arc<Batch>> = Vec::new();
        let mut events: Vec<(u8, Arc<Event>)> = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = self.waiting.front() {
            let new = batch.runs().iter().filter(|r| !bits.contains_key(&r.entry.id())).count();
            let batch_bytes: usize = batch.runs().iter().map(Run::bytes).sum();
            if !batches.is_empty()
                && (bits.len() + new > CHANNELS_MAX
                    || bytes + batch_bytes > ROUND_BYTES_MAX
                    || events.len() > ROUND_EVENTS_MAX)
            {
                break;
            }
            bytes += batch_bytes;
            for (index, run) in batch.runs().iter().enumerate() {
                // Channels past the bits of a mask share the last one: who receives any of them
                // reads history instead (see `MixedRound::send`).
                let next = bits.len().min(OVERFLOW_BIT as usize) as u8;
                let bit = *bits.entry(run.entry.id()).or_insert_with(|| {
                    channels.push((next, index, Arc::clone(batch)));
                    next
                });
                events.extend(run.events.iter().map(|event| (bit, Arc::clone(event))));
            }
            batches.extend(self.waiting.pop_front());
        }
        let (first, last) = (batches.first()?.first(), batches.last()?.last());
        events.sort_unstable_by_key(|(_, event)| event.seq);
        self.round = Some(MixedRound {
            first,
            last,
            events,
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
    /// What a connection of this mask and shape is sent; `None` when the mask does not tell its
    /// channels apart, and it is to read them from history.
    pub(super) fn send(&mut self, mask: u64, shape: &Arc<Shape>) -> Option<MixedSend> {
        if mask >> OVERFLOW_BIT != 0 {
            return None;
        }
        let key = (mask, Arc::as_ptr(shape) as usize);
        if let Some(send) = self.sends.get(&key) {
            return Some(send.clone());
        }
        let wanted = self.events.iter().filter(|(bit, _)| mask >> bit & 1 == 1);
        let wanted = wanted.map(|(_, event)| Arc::clone(event)).collect();
        let payload = Arc::new(Payload::new(wanted, shape));
        let send = MixedSend { payload, reply: None, _shape: Arc::clone(shape) };
        // Past the bound a send is made for one connection and forgotten.
        if self.sends_bytes < SENDS_BYTES_MAX {
            self.sends_bytes += send.payload.bytes().len();
            self.sends.insert(key, send.clone());
        }
        Some(send)
    }

    /// Keeps a poll's answer for the others.
    pub(super) fn keep_reply(&mut self, mask: u64, shape: &Arc<Shape>, reply: Arc<PollReply>) {
        if let Some(send) = self.sends.get_mut(&(mask, Arc::as_ptr(shape) as usize)) {
            send.reply = Some(reply);
        }
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Events gathered into one round.
const ROUND_EVENTS_MAX: usize = if cfg!(test) { 6 } else { 256 };
/// Frame bytes gathered into one round: no more than a socket takes at once.
const ROUND_BYTES_MAX: usize = if cfg!(test) { 1_000 } else { 48 * 1024 };
/// Bytes of the sends that a mixed round keeps for those who receive the same.
const SENDS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Channels a round's mask tells apart.
pub(super) const CHANNELS_MAX: usize = if cfg!(test) { 4 } else { 63 };
/// The bit that stands for all further channels.
const OVERFLOW_BIT: u8 = CHANNELS_MAX as u8;
