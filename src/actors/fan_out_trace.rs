//! The fan-out of a traced publish: how long its events are on their way to connections.
//!
//! It is recorded when it is dropped, as the permits of a batch are released: nothing on the way of
//! an event looks at it. A publish that is not traced has none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    model::Seq,
    telemetry::{PublishTrace, Stage, Step, Value},
};

/// The events of a traced publish.
#[derive(Debug)]
pub(super) struct TracedEvents {
    pub(super) trace: Arc<PublishTrace>,
    pub(super) first: Seq,
    pub(super) last: Seq,
}

/// The fan-out of one publish. It ends with the last batch or round that has it.
#[derive(Debug)]
pub(crate) struct FanOutTrace {
    traced: TracedEvents,
    shown: Instant,
    rounds: AtomicU64,
    connections: AtomicU64,
}

impl FanOutTrace {
    /// Of a publish whose events were shown then.
    pub(super) fn new(traced: TracedEvents, shown: Instant) -> Self {
        let (rounds, connections) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { traced, shown, rounds, connections }
    }

    /// Whether an event is of its publish.
    pub(super) fn has(&self, seq: Seq) -> bool {
        (self.traced.first..=self.traced.last).contains(&seq)
    }

    /// Counts a round with its events that has ended, and records it.
    pub(super) fn round_ended(
        &self,
        (began, ended): (Instant, Instant),
        shard: usize,
        lane: &'static str,
        connections: usize,
    ) {
        let connections = connections as u64;
        self.connections.fetch_add(connections, Ordering::Relaxed);
        if self.rounds.fetch_add(1, Ordering::Relaxed) < ROUNDS_SHOWN_MAX {
            let attributes = vec![
                ("visnyk.shard", Value::Whole(shard as u64)),
                ("visnyk.lane", Value::Word(lane)),
                ("visnyk.connections", Value::Whole(connections)),
            ];
            self.traced.trace.step(Step::Round, (began, ended), attributes, None);
        }
    }
}

impl Drop for FanOutTrace {
    fn drop(&mut self) {
        let rounds = *self.rounds.get_mut();
        let attributes = vec![
            ("visnyk.rounds", Value::Whole(rounds)),
            ("visnyk.connections", Value::Whole(*self.connections.get_mut())),
        ];
        self.traced.trace.stage_ended(Stage::FanOut, self.shown, attributes, None);
    }
}

/// Rounds of one publish that have spans of their own: a publish across many channels has many.
const ROUNDS_SHOWN_MAX: u64 = 32;
