//! The batches that wait for the next rounds of a lane, and an estimate of how long a new batch
//! will wait.

use std::{collections::VecDeque, sync::Arc};

use crate::actors::batch::Batch;

/// The queue of a lane.
#[derive(Debug)]
pub(super) struct RoundQueue {
    bounds: RoundBounds,
    waiting: VecDeque<Waiting>,
    events: usize,
    bytes: usize,
    /// The latest round; `None` while the lane is idle.
    latest: Option<RoundTimes>,
}

/// The times of a round, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct RoundTimes {
    begun_ms: u64,
    /// When the sends that are counted now began. Before that the round may have collected its
    /// connections, or made other sends.
    sends_begun_ms: u64,
    /// How long the round before it took.
    before_took_ms: u64,
}

/// A waiting batch.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) batch: Arc<Batch>,
    /// The index of the lane's run in the batch; the mixed lane takes all runs.
    pub(super) run: usize,
    events: usize,
    bytes: usize,
}

/// The limits of one round; a single batch may exceed them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundBounds {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl RoundQueue {
    pub(super) fn new(bounds: RoundBounds) -> Self {
        Self { bounds, waiting: VecDeque::new(), events: 0, bytes: 0, latest: None }
    }

    /// Whether no batch waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds one run of a batch.
    pub(super) fn push_run(&mut self, batch: Arc<Batch>, run: usize) {
        let (events, bytes) = (batch.runs()[run].events.len(), batch.runs()[run].bytes());
        self.push(Waiting { batch, run, events, bytes });
    }

    /// Adds a batch with all its runs.
    pub(super) fn push_batch(&mut self, batch: Arc<Batch>) {
        let (mut events, mut bytes) = (0, 0);
        for run in batch.runs() {
            (events, bytes) = (events + run.events.len(), bytes + run.bytes());
        }
        self.push(Waiting { batch, run: 0, events, bytes });
    }

    fn push(&mut self, waiting: Waiting) {
        self.events += waiting.events;
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
    }

    /// Takes the batches of the next round out of the queue, up to the limits of a round; `take`
    /// converts each.
    pub(super) fn begin_round<T>(&mut self, now_ms: u64, take: impl Fn(Waiting) -> T) -> Vec<T> {
        let (events, bytes) = (self.events, self.bytes);
        let mut gathered = Vec::new();
        while let Some(next) = self.waiting.front() {
            if !gathered.is_empty()
                && (events - self.events + next.events > self.bounds.events
                    || bytes - self.bytes + next.bytes > self.bounds.bytes)
            {
                break;
            }
            self.events -= next.events;
            self.bytes -= next.bytes;
            gathered.extend(self.waiting.pop_front().map(&take));
        }
        if !gathered.is_empty() {
            let (begun_ms, sends_begun_ms) = (now_ms, now_ms);
            let before_took_ms =
                self.latest.map_or(0, |before| now_ms.saturating_sub(before.begun_ms));
            self.latest = Some(RoundTimes { begun_ms, sends_begun_ms, before_took_ms });
        }
        gathered
    }

    /// The sends of the round begin now, or are counted anew.
    pub(super) fn begin_sends(&mut self, now_ms: u64) {
        if let Some(latest) = &mut self.latest {
            latest.sends_begun_ms = now_ms;
        }
    }

    /// Ends the round; true if another can begin.
    pub(super) fn end_round(&mut self) -> bool {
        if self.is_empty() {
            self.latest = None;
        }
        !self.is_empty()
    }

    /// How long a batch queued now will wait after the round under way, in milliseconds: the number
    /// of rounds before its own, times the duration of the latest round. The round under way has
    /// made `made` of the `all` sends that are counted; before the first of them it is known only
    /// to take no less than until now.
    pub(super) fn delay_ms(&self, now_ms: u64, (made, all): (usize, usize)) -> u64 {
        if self.events < self.bounds.events && self.bytes < self.bounds.bytes {
            return 0;
        }
        let Some(RoundTimes { begun_ms, sends_begun_ms, before_took_ms }) = self.latest else {
            return 0;
        };
        let rounds = (self.events / self.bounds.events).max(self.bytes / self.bounds.bytes);
        let sends_ms =
            now_ms.saturating_sub(sends_begun_ms) * all.max(1) as u64 / made.max(1) as u64;
        let takes_ms = sends_begun_ms.saturating_sub(begun_ms) + sends_ms;
        rounds as u64 * before_took_ms.max(takes_ms)
    }
}
