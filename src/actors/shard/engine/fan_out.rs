//! Which slots receive which events, and in what order: batches of the log become rounds of lanes,
//! and rounds become slices, each a bounded number of sends.
//!
//! The engine takes the next slice, makes its sends, and returns it.

mod mixed;

use std::{collections::VecDeque, ops::Range, slice, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{
    actors::{
        batch::Batch,
        payload::Payload,
        shard::{
            gathering::Gathering,
            lane::Lane,
            mixed_lane::MixedLane,
            registry::{Registry, VACANT},
            round_start::RoundStart,
            round_trace::RoundTrace,
            slot::{Slot, Subscribed},
            slots::Slots,
        },
        subscriber::Shape,
    },
    backend::{self, ChannelId, Throttle, Throttles},
    model::Seq,
    telemetry::Histogram,
};

/// The subscribers of a shard and the rounds on their way to them.
#[derive(Debug)]
pub(super) struct FanOut {
    /// The index of the shard.
    shard: usize,
    registry: Registry,
    /// Batches whose runs are being handed out; the first may be handed out in part.
    batches: VecDeque<BatchInProgress>,
    lanes: FxHashMap<ChannelId, Lane>,
    /// Lanes with work, round robin.
    lane_queue: VecDeque<ChannelId>,
    /// Whether the lane whose round began last had waited too long for this round.
    lanes_are_late: bool,
    gathering: Gathering,
    mixed: MixedLane,
    /// The start of a round of the mixed lane, while its slots are being collected.
    mixed_start: Option<RoundStart>,
    throttles: Arc<Throttles>,
    /// The channels throttled because their batches waited too long in the ring.
    late_in_ring: FxHashMap<ChannelId, Throttle>,
    /// The channels throttled because an event published now would wait too long in the mixed lane.
    late_in_mixed: FxHashMap<ChannelId, Throttle>,
    plain_shape: Arc<Shape>,
    /// The channel to whose plain streams a slice is being sent.
    sending: Option<ChannelId>,
    /// All batches of this shard up to this seq have been handed out.
    head: Seq,
    /// The head of the log as last read. It becomes `head` once the queued batches are handed out.
    log_head: Seq,
    /// The slots of the slice in hand.
    scratch: Vec<u32>,
    /// The time from showing events until their round is over: observed once a round, and for the
    /// small channels of a batch together.
    delays: Histogram,
}

/// A batch whose runs are being handed out.
#[derive(Debug)]
struct BatchInProgress {
    batch: Arc<Batch>,
    /// The next run.
    next: usize,
    /// Whether a connection of the mixed lane receives any run so far.
    mixed: bool,
    /// Whether any run so far was sent at once.
    small: bool,
}

/// Sends to plain streams of one channel; `payload` is owned by a small channel, and shared by the
/// slices of a large one's round.
#[derive(Debug)]
pub(super) struct PlainSlice<P> {
    channel: ChannelId,
    /// The range of the channel's list.
    range: Range<usize>,
    /// The bytes for each stream.
    pub(super) payload: P,
    /// First and last seq of the round.
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Whether the round ends with it.
    ends_round: bool,
    /// For the run of a small channel with a traced event: recorded when the slice is dropped.
    _trace: Option<Box<RoundTrace>>,
}

impl<P> PlainSlice<P> {
    /// The number of sends.
    pub(super) fn len(&self) -> usize {
        self.range.len()
    }
}

impl FanOut {
    /// The fan-out of shard `shard`, with the log at `head`.
    pub(super) fn new(
        shard: usize,
        channels: &backend::Registry,
        head: Seq,
        delays: Histogram,
    ) -> Self {
        Self {
            shard,
            registry: Registry::new(shard, Arc::clone(channels.pattern_subscribers())),
            batches: VecDeque::new(),
            lanes: FxHashMap::default(),
            lane_queue: VecDeque::new(),
            lanes_are_late: false,
            gathering: Gathering::default(),
            mixed: MixedLane::default(),
            mixed_start: None,
            throttles: Arc::clone(channels.throttles()),
            late_in_ring: FxHashMap::default(),
            late_in_mixed: FxHashMap::default(),
            plain_shape: Arc::new(Shape::frames()),
            sending: None,
            head,
            log_head: Seq::ZERO,
            scratch: Vec::new(),
            delays,
        }
    }

    /// The shape of all plain streams.
    #[inline]
    pub(super) fn plain_shape(&self) -> &Arc<Shape> {
        &self.plain_shape
    }

    /// The seq up to which all batches of this shard have been handed out.
    #[inline]
    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// Queues a batch of the log.
    pub(super) fn push(&mut self, batch: Arc<Batch>) {
        self.batches.push_back(BatchInProgress { batch, next: 0, mixed: false, small: false });
    }

    /// Sets the head of the log. All batches of this shard up to that have been queued.
    pub(super) fn note_log_head(&mut self, through: Seq) {
        self.log_head = through;
        if self.batches.is_empty() {
            self.head = self.head.max(through);
            self.late_in_ring.clear();
        }
    }

    /// Whether all queued batches have been handed out to their channels.
    pub(super) fn wants_batches(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether there is anything to send now.
    pub(super) fn has_work(&self, now_ms: u64) -> bool {
        !self.batches.is_empty()
            || !self.lane_queue.is_empty()
            || self.gathering.is_due(now_ms)
            || self.mixed.has_round()
            || !self.mixed.is_idle() && self.gathering.is_mixed_due(now_ms)
    }

    /// When the next gathering events are sent, in milliseconds since 1970.
    pub(super) fn gathers_until_ms(&self) -> Option<u64> {
        self.gathering.next_due_ms(!self.mixed.is_idle())
    }

    /// How long events of small channels gather before they are sent, in milliseconds.
    pub(super) fn gather_ms(&self) -> u64 {
        self.gathering.wait_ms()
    }

    /// Sets how long events of small channels gather before they are sent.
    pub(super) fn set_gather_ms(&mut self, gather_ms: u64) {
        self.gathering.set_wait_ms(gather_ms);
    }

    /// Events that gather now are sent by the next passes.
    pub(super) fn end_gathering(&mut self) {
        self.gathering.end_waits();
    }

    /// Queues the lanes that have gathered events long enough.
    #[inline]
    pub(super) fn queue_gathered(&mut self, now_ms: u64) {
        while let Some(channel) = self.gathering.pop_due(now_ms) {
            if let Some(lane) = self.lanes.get_mut(&channel) {
                lane.set_ready(now_ms);
                self.lane_queue.push_back(channel);
            }
        }
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

    /// Adds a connection to the lists; returns the index of a plain stream in the list of its
    /// channel.
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

    /// Removes a connection from the lists. If another slot moves to its index, that slot is
    /// returned.
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
                self.leave_round_start(slot);
                self.registry.remove_mixed(slot, &full.subscriber);
                None
            }
        }
    }

    /// Removes channels without subscribers, a bounded number at each call.
    pub(super) fn prune(&mut self, channels: usize) {
        self.registry.prune(channels);
    }

    /// Hands out runs of batches until `left` is used up. The run of a large channel goes to its
    /// lane; the first run of a small channel is returned, to be sent at once. While further
    /// batches are queued, or the shard is busy all the time, runs of small channels go to lanes
    /// too, where the events of several batches gather into one send.
    pub(super) fn next_small_run(
        &mut self,
        left: &mut usize,
        now_ms: u64,
    ) -> Option<PlainSlice<Payload>> {
        loop {
            let is_last = self.batches.len() == 1;
            let Some(current) = self.batches.front_mut() else { break };
            if current.next == 0 {
                let waited_ms = now_ms.saturating_sub(current.batch.shown_ms());
                let is_late = waited_ms > self.throttles.delay_max_ms();
                if is_late {
                    let channels = current.batch.runs().iter().map(|run| run.entry.id());
                    throttle_all(&self.throttles, &mut self.late_in_ring, channels);
                } else if !self.late_in_ring.is_empty() {
                    self.late_in_ring.clear();
                }
            }
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
                let gathers = is_small && self.gathering.wait_ms() > 0;
                if is_small && !gathers && is_last && !self.lanes.contains_key(&channel) {
                    *left = left.saturating_sub(plain_count);
                    current.small = true;
                    return Some(PlainSlice {
                        channel,
                        range: 0..plain_count,
                        payload: Payload::new(run.events.clone(), &self.plain_shape),
                        first: current.batch.first(),
                        last: current.batch.last(),
                        ends_round: true,
                        _trace: RoundTrace::begin(
                            (self.shard, "small"),
                            slice::from_ref(&current.batch),
                            plain_count,
                            |sent| sent == channel,
                        ),
                    });
                }
                let lane = self.lanes.entry(channel).or_default();
                if lane.is_idle() && gathers {
                    self.gathering.push(channel, current.batch.shown_ms());
                } else if lane.is_idle() {
                    lane.set_ready(now_ms);
                    self.lane_queue.push_back(channel);
                }
                lane.push(Arc::clone(&current.batch), index);
                lane.check_delay(channel, self.lanes_are_late, &self.throttles, now_ms);
            }
            self.head = current.batch.last();
            let Some(done) = self.batches.pop_front() else { break };
            if done.small {
                self.delays.observe_time(done.batch.since_shown());
            }
            if done.mixed {
                self.push_mixed(done.batch, now_ms);
            }
        }
        self.head = self.head.max(self.log_head);
        None
    }

    /// The next slice of the next lane: at most `sends_max` sends.
    pub(super) fn next_slice(
        &mut self,
        sends_max: usize,
        now_ms: u64,
    ) -> Option<PlainSlice<Arc<Payload>>> {
        while let Some(channel) = self.lane_queue.pop_front() {
            let plain_count = self.registry.plain(channel).len();
            let Some(lane) = self.lanes.get_mut(&channel) else { continue };
            if let Some(waited_ms) = lane.waited_ms(now_ms) {
                self.lanes_are_late = waited_ms > self.throttles.delay_max_ms();
            }
            let Some(round) =
                lane.round(self.shard, channel, plain_count, &self.plain_shape, now_ms)
            else {
                self.lanes.remove(&channel);
                continue;
            };
            let range = round.next_slice(sends_max);
            let next = PlainSlice {
                channel,
                range,
                payload: Arc::clone(round.payload()),
                first: round.first(),
                last: round.last(),
                ends_round: round.is_over(),
                _trace: None,
            };
            lane.check_delay(channel, self.lanes_are_late, &self.throttles, now_ms);
            return Some(next);
        }
        self.lanes_are_late = false;
        None
    }

    /// The slots of a slice, to be returned with [`end_slice`](Self::end_slice) or
    /// [`end_small_run`](Self::end_small_run). If a slot's connection ends meanwhile, its index
    /// becomes vacant.
    #[inline]
    pub(super) fn begin_slice<P>(&mut self, slice: &PlainSlice<P>) -> Vec<u32> {
        self.sending = Some(slice.channel);
        let mut slots = std::mem::take(&mut self.scratch);
        slots.clear();
        slots.extend_from_slice(&self.registry.plain(slice.channel)[slice.range.clone()]);
        slots
    }

    /// Ends a small channel's run after its sends.
    #[inline]
    pub(super) fn end_small_run(
        &mut self,
        run: &PlainSlice<Payload>,
        sent: Vec<u32>,
        slots: &mut Slots<Slot>,
    ) {
        (self.sending, self.scratch) = (None, sent);
        self.compact(run.channel, slots);
    }

    /// Ends a lane's slice after its sends.
    pub(super) fn end_slice(
        &mut self,
        slice: &PlainSlice<Arc<Payload>>,
        sent: Vec<u32>,
        slots: &mut Slots<Slot>,
        now_ms: u64,
    ) {
        (self.sending, self.scratch) = (None, sent);
        if slice.ends_round {
            let lane = self.lanes.get_mut(&slice.channel);
            let has_more = lane.is_some_and(|lane| {
                if let Some(delay) = lane.since_shown() {
                    self.delays.observe_time(delay);
                }
                lane.end_round(now_ms)
            });
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

    fn is_in_round(&self, channel: ChannelId) -> bool {
        self.sending == Some(channel) || self.lanes.contains_key(&channel)
    }

    #[inline]
    fn compact(&mut self, channel: ChannelId, slots: &mut Slots<Slot>) {
        self.registry.compact(channel, |slot, plain_index| {
            if let Some(slot) = slots.get_mut(slot as usize) {
                slot.plain_index = plain_index;
            }
        });
    }
}

fn throttle_all(
    throttles: &Arc<Throttles>,
    throttled: &mut FxHashMap<ChannelId, Throttle>,
    channels: impl IntoIterator<Item = ChannelId>,
) {
    for channel in channels {
        throttled.entry(channel).or_insert_with(|| throttles.throttle(channel));
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Sends in one slice of a lane: about a third of a millisecond, which is what a publisher on this
/// shard waits while a large fan-out is under way (docs/adr/009-slices.md).
pub(super) const SENDS_PER_SLICE: usize = if cfg!(test) { 3 } else { 64 };
