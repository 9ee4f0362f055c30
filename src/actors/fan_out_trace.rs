//! The fan-out of a traced publish: how long its events are on their way to connections, and the rounds
//! that they are in.
//!
//! Both are recorded when they are dropped, as the permits of a batch are released: nothing on the way
//! of an event looks at them. A publish that is not traced has neither.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{batch::Batch, submission::Committed};
use crate::{
    backend::ChannelId,
    model::Seq,
    telemetry::{PublishTrace, Stage, Step, Value},
};

/// The fan-out of one publish. It ends with the last batch or round that has it.
#[derive(Debug)]
pub(crate) struct FanOutTrace {
    publish: Arc<PublishTrace>,
    shown: Instant,
    first: Seq,
    last: Seq,
    rounds: AtomicU64,
    connections: AtomicU64,
}

/// A round with events of traced publishes. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct RoundTrace {
    began: Instant,
    shard: usize,
    lane: &'static str,
    connections: usize,
    fan_outs: Vec<Arc<FanOutTrace>>,
}

impl FanOutTrace {
    /// Of a publish whose events were shown then.
    pub(super) fn new(publish: Arc<PublishTrace>, committed: &Committed, shown: Instant) -> Self {
        Self {
            publish,
            shown,
            first: committed.first.seq,
            last: committed.last.seq,
            rounds: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    fn has(&self, seq: Seq) -> bool {
        (self.first..=self.last).contains(&seq)
    }
}

impl Drop for FanOutTrace {
    fn drop(&mut self) {
        let rounds = *self.rounds.get_mut();
        let attributes = vec![
            ("visnyk.rounds", Value::Whole(rounds)),
            ("visnyk.connections", Value::Whole(*self.connections.get_mut())),
        ];
        self.publish.stage_ended(Stage::FanOut, self.shown, attributes, None);
    }
}

impl RoundTrace {
    /// Of a round on a shard that begins now with events of these batches, of the channels that
    /// `is_sent` names; `None` if none of them is of a traced publish.
    pub(super) fn begin<'a>(
        (shard, lane): (usize, &'static str),
        batches: impl IntoIterator<Item = &'a Arc<Batch>>,
        connections: usize,
        mut is_sent: impl FnMut(ChannelId) -> bool,
    ) -> Option<Box<Self>> {
        let mut fan_outs = Vec::new();
        for batch in batches.into_iter().filter(|batch| !batch.traces().is_empty()) {
            for trace in batch.traces() {
                let has_its_events = batch.runs().iter().any(|run| {
                    run.events.iter().any(|event| trace.has(event.seq)) && is_sent(run.entry.id())
                });
                if has_its_events {
                    fan_outs.push(Arc::clone(trace));
                }
            }
        }
        let is_traced = !fan_outs.is_empty();
        is_traced
            .then(|| Box::new(Self { began: Instant::now(), shard, lane, connections, fan_outs }))
    }
}

impl Drop for RoundTrace {
    fn drop(&mut self) {
        let connections = self.connections as u64;
        let ended = Instant::now();
        for trace in self.fan_outs.drain(..) {
            trace.connections.fetch_add(connections, Ordering::Relaxed);
            if trace.rounds.fetch_add(1, Ordering::Relaxed) < ROUNDS_SHOWN_MAX {
                let attributes = vec![
                    ("visnyk.shard", Value::Whole(self.shard as u64)),
                    ("visnyk.lane", Value::Word(self.lane)),
                    ("visnyk.connections", Value::Whole(connections)),
                ];
                trace.publish.step(Step::Round, (self.began, ended), attributes, None);
            }
        }
    }
}

/// Rounds of one publish that have spans of their own: a publish across many channels has many.
const ROUNDS_SHOWN_MAX: u64 = 32;
