//! Which slots receive which events, and in what order: batches of the log become rounds of lanes,
//! and rounds become slices, each a bounded number of sends.
//!
//! The engine takes the next slice, makes its sends, and gives it back.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{
    actors::{
        batch::Batch,
        payload::Payload,
        shard::{
            registry::{Registry, VACANT},
            rounds::{Lane, MixedLane, MixedRound},
            slot::{Slot, Subscribed},
            slots::Slots,
        },
        subscriber::Shape,
    },
    backend::{ChannelId, ShardSet},
    model::Seq,
};

/// The subscribers of a shard and the rounds on their way to them.
#[derive(Debug)]
pub(super) struct FanOut {
    registry: Registry,
    /// Batches whose runs are being handed out, and how far the first of them is.
    batches: VecDeque<BatchInProgress>,
    lanes: FxHashMap<ChannelId, Lane>,
    /// Lanes with work, round robin.
    lane_queue: VecDeque<ChannelId>,
    mixed: MixedLane,
    plain_shape: Arc<Shape>,
    /// The channel to whose plain streams a slice is being sent.
    sending: Option<ChannelId>,
    /// How far the log is as this shard knows it: all batches up to there that concern it have been
    /// handed out.
    head: Seq,
    /// The same of the log when it was last looked at, if there are batches to be handed out
    /// before.
    log_head: Seq,
    /// The slots of the slice in hand.
    scratch: Vec<u32>,
}

/// A batch whose runs are being handed out.
#[derive(Debug)]
struct BatchInProgress {
    batch: Arc<Batch>,
    /// The next run.
    next: usize,
    /// Whether a connection of the mixed lane receives any run so far.
    mixed: bool,
}

/// Sends to plain streams of one channel; `payload` is owned by a small channel, and shared by the
/// slices of a large one's round.
#[derive(Debug)]
pub(super) struct PlainSlice<P> {
    channel: ChannelId,
    /// Where in the channel's list.
    range: Range<usize>,
    /// What each is sent.
    pub(super) payload: P,
    /// First and last seq of the round.
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Whether the round ends with it.
    ends_round: bool,
}

impl<P> PlainSlice<P> {
    /// How many sends it is.
    pub(super) fn len(&self) -> usize {
        self.range.len()
    }
}

impl FanOut {
    /// Of the shard of that number, with the log at `head`; `pattern_subscribers` has the shards that
    /// have patterns.
    pub(super) fn new(shard: usize, pattern_subscribers: Arc<ShardSet>, head: Seq) -> Self {
        Self {
            registry: Registry::new(shard, pattern_subscribers),
            batches: VecDeque::new(),
            lanes: FxHashMap::default(),
            lane_queue: VecDeque::new(),
            mixed: MixedLane::default(),
            plain_shape: Arc::new(Shape::frames()),
            sending: None,
            head,
            log_head: Seq::ZERO,
            scratch: Vec::new(),
        }
    }

    /// The shape of all plain streams.
    #[inline]
    pub(super) fn plain_shape(&self) -> &Arc<Shape> {
        &self.plain_shape
    }

    /// How far the log is as the connections that are not behind have it.
    #[inline]
    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// Takes a batch of the log.
    pub(super) fn push(&mut self, batch: Arc<Batch>) {
        self.batches.push_back(BatchInProgress { batch, next: 0, mixed: false });
    }

    /// Tells it how far the log is. It has been given all batches up to there that concern it.
    pub(super) fn note_log_head(&mut self, through: Seq) {
        self.log_head = through;
        if self.batches.is_empty() {
            self.head = self.head.max(through);
        }
    }

    /// Whether all batches it was given have been handed out to their channels.
    pub(super) fn wants_batches(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether there is anything to send.
    pub(super) fn has_work(&self) -> bool {
        !self.batches.is_empty() || !self.lane_queue.is_empty() || !self.mixed.is_idle()
    }

    /// Whether a live connection of this kind has everything up to the [`head`](Self::head).
    #[inline]
    pub(super) fn is_idle_for(&self, subscriber: &Subscribed) -> bool {
        match subscriber {
            Subscribed::Plain(plain) => !self.is_in_round(plain.channel()),
            Subscribed::Full(_) => self.mixed.is_idle(),
        }
    }

    /// Whether a round of the mixed lane is under way.
    pub(super) fn is_in_mixed_round(&self) -> bool {
        self.mixed.has_round()
    }

    /// Enters a connection in the lists; gives the index of a plain stream in that of its channel.
    #[inline]
    pub(super) fn subscribe(&mut self, slot: u32, subscriber: &Subscribed) -> u32 {
        match subscriber {
            Subscribed::Plain(plain) => self.registry.add_plain(slot, plain.entry()),
            Subscribed::Full(full) => {
                self.registry.add_mixed(slot, &full.subscriber);
                VACANT
            }
        }
    }

    /// Takes a connection out of the lists. Should another slot get its index in its channel's list,
    /// that is returned.
    #[inline]
    pub(super) fn unsubscribe(
        &mut self,
        slot: u32,
        subscriber: &Subscribed,
        plain_index: u32,
    ) -> Option<u32> {
        self.mixed.clear_set(slot);
        match subscriber {
            Subscribed::Plain(plain) => {
                let channel = plain.channel();
                let is_in_round = self.is_in_round(channel);
                self.registry.remove_plain(slot, plain_index, channel, is_in_round)
            }
            Subscribed::Full(full) => {
                self.registry.remove_mixed(slot, &full.subscriber);
                None
            }
        }
    }

    /// Forgets channels without subscribers here, some at each call.
    pub(super) fn prune(&mut self, channels: usize) {
        self.registry.prune(channels);
    }

    /// Hands runs of batches out until `left` is used up: a large channel's goes to its lane, and the
    /// first of a small channel is returned, to be sent now. While further batches wait, all runs go
    /// to lanes: a lane's round is one send of what has gathered for its channel.
    pub(super) fn next_small_run(&mut self, left: &mut usize) -> Option<PlainSlice<Payload>> {
        loop {
            let is_last = self.batches.len() == 1;
            let Some(current) = self.batches.front_mut() else { break };
            while let Some(run) = current.batch.runs().get(current.next) {
                if *left == 0 {
                    return None;
                }
                let index = current.next;
                current.next += 1;
                *left -= 1;
                let Some(subscribers) = self.registry.look_up(&run.entry) else { continue };
                current.mixed |= subscribers.has_mixed();
                let plain_count = subscribers.plain_len();
                let channel = run.entry.id();
                if plain_count == 0 {
                    continue;
                }
                let is_small = plain_count <= SENDS_PER_SLICE;
                if is_small && is_last && !self.lanes.contains_key(&channel) {
                    *left = left.saturating_sub(plain_count);
                    return Some(PlainSlice {
                        channel,
                        range: 0..plain_count,
                        payload: Payload::new(run.events.clone(), &self.plain_shape),
                        first: current.batch.first(),
                        last: current.batch.last(),
                        ends_round: true,
                    });
                }
                let lane = self.lanes.entry(channel).or_default();
                if lane.is_idle() {
                    self.lane_queue.push_back(channel);
                }
                lane.push(Arc::clone(&current.batch), index);
            }
            self.head = current.batch.last();
            if let Some(BatchInProgress { batch, mixed: true, .. }) = self.batches.pop_front() {
                self.mixed.push(batch);
            }
        }
        self.head = self.head.max(self.log_head);
        None
    }

    /// The next slice of the next lane: at most `sends_max` sends.
    pub(super) fn next_slice(&mut self, sends_max: usize) -> Option<PlainSlice<Arc<Payload>>> {
        while let Some(channel) = self.lane_queue.pop_front() {
            let plain_count = self.registry.plain(channel).len();
            let Some(lane) = self.lanes.get_mut(&channel) else { continue };
            let Some(round) = lane.round(plain_count, &self.plain_shape) else {
                self.lanes.remove(&channel);
                continue;
            };
            let range = round.next_slice(sends_max);
            return Some(PlainSlice {
                channel,
                range,
                payload: Arc::clone(round.payload()),
                first: round.first(),
                last: round.last(),
                ends_round: round.is_over(),
            });
        }
        None
    }

    /// The slots of a slice, to be given back with [`end_slice`](Self::end_slice) or
    /// [`end_small_run`](Self::end_small_run). A slot that ends meanwhile leaves its index vacant.
    pub(super) fn begin_slice<P>(&mut self, slice: &PlainSlice<P>) -> Vec<u32> {
        self.sending = Some(slice.channel);
        let mut slots = std::mem::take(&mut self.scratch);
        slots.clear();
        slots.extend_from_slice(&self.registry.plain(slice.channel)[slice.range.clone()]);
        slots
    }

    /// The sends of a small channel's run are made.
    pub(super) fn end_small_run(
        &mut self,
        run: &PlainSlice<Payload>,
        sent: Vec<u32>,
        slots: &mut Slots<Slot>,
    ) {
        (self.sending, self.scratch) = (None, sent);
        self.compact(run.channel, slots);
    }

    /// The sends of a lane's slice are made.
    pub(super) fn end_slice(
        &mut self,
        slice: &PlainSlice<Arc<Payload>>,
        sent: Vec<u32>,
        slots: &mut Slots<Slot>,
    ) {
        (self.sending, self.scratch) = (None, sent);
        if slice.ends_round {
            let has_more = self.lanes.get_mut(&slice.channel).is_some_and(Lane::end_round);
            if !has_more {
                self.lanes.remove(&slice.channel);
            }
            self.compact(slice.channel, slots);
            if !has_more {
                return;
            }
        }
        self.lane_queue.push_back(slice.channel);
    }

    /// The round of the mixed lane that is under way, or a new one; to be given back with
    /// [`return_mixed_round`](Self::return_mixed_round).
    pub(super) fn take_mixed_round(&mut self, slots: &Slots<Slot>) -> Option<MixedRound> {
        if !self.mixed.has_round() {
            let channels = self.mixed.begin(slots.capacity())?;
            for (number, (batch, run)) in channels.iter().enumerate() {
                let entry = &batch.runs()[*run].entry;
                if self.registry.look_up(entry).is_some() {
                    let mixed = &mut self.mixed;
                    self.registry.each_mixed(entry.id(), |slot| mixed.add_due(slot, number as u32));
                }
            }
        }
        self.mixed.take_round()
    }

    /// The set of channels of the round that a slot is due; it is due none from now on.
    #[inline]
    pub(super) fn take_set(&mut self, slot: u32) -> u32 {
        self.mixed.take_set(slot)
    }

    /// Gives a round back; false if it is over.
    pub(super) fn return_mixed_round(&mut self, round: MixedRound) -> bool {
        self.mixed.return_round(round)
    }

    fn is_in_round(&self, channel: ChannelId) -> bool {
        self.sending == Some(channel) || self.lanes.contains_key(&channel)
    }

    fn compact(&mut self, channel: ChannelId, slots: &mut Slots<Slot>) {
        self.registry.compact(channel, |slot, plain_index| {
            if let Some(slot) = slots.get_mut(slot as usize) {
                slot.plain_index = plain_index;
            }
        });
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Sends in one slice of a lane: about a third of a millisecond, which is what a publisher on this
/// shard waits while a large fan-out is under way (docs/adr/009-slices.md).
pub(super) const SENDS_PER_SLICE: usize = if cfg!(test) { 3 } else { 64 };
