//! The lane of one large channel. While a round is under way, new events gather in its queue; the
//! next round sends all of them with one write to each plain stream of the channel.
//!
//! A round is divided into slices, so that small channels and new connections wait for a slice and
//! not for a round.

use std::{ops::Range, sync::Arc, time::Duration};

use super::{
    round_queue::{RoundBounds, RoundQueue},
    round_trace::RoundTrace,
};
use crate::{
    actors::{batch::Batch, payload::Payload, subscriber::Shape},
    backend::{ChannelId, Throttle, Throttles},
    model::{Event, Seq},
};

/// The lane of one channel.
#[derive(Debug)]
pub(super) struct Lane {
    queue: RoundQueue,
    round: Option<PlainRound>,
    /// When its next round could begin, in milliseconds since 1970.
    ready_ms: u64,
    /// Held while an event published now would wait too long.
    throttle: Option<Throttle>,
}

/// One send to each plain stream of a channel.
#[derive(Debug)]
pub(super) struct PlainRound {
    first: Seq,
    last: Seq,
    payload: Arc<Payload>,
    /// The next index in the channel's list of plain streams, and the length of the list when the
    /// round began.
    next: usize,
    end: usize,
    /// The batches hold their publish permits until the round is over.
    batches: Vec<Arc<Batch>>,
    /// For a round with a traced event: recorded when the round is dropped.
    trace: Option<Box<RoundTrace>>,
}

impl Default for Lane {
    fn default() -> Self {
        Self { queue: RoundQueue::new(ROUND), round: None, ready_ms: 0, throttle: None }
    }
}

impl Lane {
    /// Whether there is neither a round nor a queued batch.
    pub(super) fn is_idle(&self) -> bool {
        self.round.is_none() && self.queue.is_empty()
    }

    /// Queues a batch, with the index of this channel's run in it.
    pub(super) fn push(&mut self, batch: Arc<Batch>, run: usize) {
        self.queue.push_run(batch, run);
    }

    /// Notes that a round can begin from now on.
    pub(super) fn set_ready(&mut self, now_ms: u64) {
        self.ready_ms = now_ms;
    }

    /// How long the next round has been waiting for the shard, in milliseconds; `None` if one is
    /// under way.
    pub(super) fn waited_ms(&self, now_ms: u64) -> Option<u64> {
        self.round.is_none().then(|| now_ms.saturating_sub(self.ready_ms))
    }

    /// The round under way, or a new one of the queued batches; `None` if none are queued.
    pub(super) fn round(
        &mut self,
        shard: usize,
        channel: ChannelId,
        plain_count: usize,
        shape: &Shape,
        now_ms: u64,
    ) -> Option<&mut PlainRound> {
        if self.round.is_none() {
            self.round = self.begin(plain_count, shape, now_ms);
            if let Some(round) = &mut self.round {
                round.trace(shard, channel);
            }
        }
        self.round.as_mut()
    }

    /// How long ago the first events of the round were shown.
    pub(super) fn since_shown(&self) -> Option<Duration> {
        Some(self.round.as_ref()?.batches.first()?.since_shown())
    }

    /// Ends the round; true if another can begin.
    pub(super) fn end_round(&mut self, now_ms: u64) -> bool {
        (self.round, self.ready_ms) = (None, now_ms);
        self.queue.end_round()
    }

    /// Throttles the publishers of the channel while an event published now would wait too long: in
    /// the queue of this lane, or, if `lanes_are_late`, because the lane itself waits for the
    /// others.
    pub(super) fn check_delay(
        &mut self,
        channel: ChannelId,
        lanes_are_late: bool,
        throttles: &Arc<Throttles>,
        now_ms: u64,
    ) {
        let progress = self.round.as_ref().map_or((0, 0), |round| (round.next, round.end));
        let is_late =
            lanes_are_late || self.queue.delay_ms(now_ms, progress) > throttles.delay_max_ms();
        if is_late != self.throttle.is_some() {
            self.throttle = is_late.then(|| throttles.throttle(channel));
        }
    }

    /// Begins a round of the queued batches, up to the limits of a round.
    fn begin(&mut self, plain_count: usize, shape: &Shape, now_ms: u64) -> Option<PlainRound> {
        let gathered = self.queue.begin_round(now_ms, |waiting| waiting);
        let (first, last) = (gathered.first()?.batch.first(), gathered.last()?.batch.last());
        let mut events: Vec<Arc<Event>> = Vec::new();
        for waiting in &gathered {
            events.extend(waiting.batch.runs()[waiting.run].events.iter().cloned());
        }
        let payload = Arc::new(Payload::new(events, shape));
        let batches = gathered.into_iter().map(|waiting| waiting.batch).collect();
        Some(PlainRound { first, last, payload, next: 0, end: plain_count, batches, trace: None })
    }
}

impl PlainRound {
    /// Begins its trace, if an event of it is traced.
    fn trace(&mut self, shard: usize, channel: ChannelId) {
        let origin = (shard, "large");
        self.trace = RoundTrace::begin(origin, &self.batches, self.end, |sent| sent == channel);
    }

    /// First seq of the round.
    pub(super) fn first(&self) -> Seq {
        self.first
    }

    /// Last seq of the round.
    pub(super) fn last(&self) -> Seq {
        self.last
    }

    /// The bytes for each stream.
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

// Tests of the crate run with bounds so small that they are hit all the time.
/// Events and frame bytes of one send: about what a socket buffer holds.
pub(super) const ROUND: RoundBounds = match cfg!(test) {
    true => RoundBounds { events: 6, bytes: 1_000 },
    false => RoundBounds { events: 256, bytes: 48 * 1024 },
};
