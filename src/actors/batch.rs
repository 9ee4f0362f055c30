//! What the log hands to the shards: the events of one commit, in log order, by channel.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use tokio::sync::OwnedSemaphorePermit;

use super::fan_out_trace::FanOutTrace;
use crate::{
    backend::{ChannelEntry, ChannelId},
    model::{Event, EventKind, Seq},
};

/// The events of one commit. The publishers' permits travel with it and are free again when the
/// last shard has let go of it, however it came to do so.
#[derive(Debug)]
pub struct Batch {
    first: Seq,
    last: Seq,
    shown_ms: u64,
    /// The same by a finer clock, for metrics.
    shown_at: Instant,
    runs: Vec<Run>,
    /// Of the publishes that are traced.
    traces: Vec<Arc<FanOutTrace>>,
    _permits: Vec<OwnedSemaphorePermit>,
}

/// The events of one channel in a batch.
#[derive(Debug)]
pub struct Run {
    /// The channel.
    pub entry: Arc<ChannelEntry>,
    /// Its events, in log order; at least one.
    pub events: Vec<Arc<Event>>,
}

impl Batch {
    /// A batch of at least one event, shown at `shown_ms`; `runs` are in the order of their first
    /// events.
    pub fn new(
        first: Seq,
        last: Seq,
        shown_ms: u64,
        runs: Vec<Run>,
        permits: Vec<OwnedSemaphorePermit>,
    ) -> Self {
        debug_assert!(!runs.is_empty() && first <= last);
        let shown_at = Instant::now();
        Self { first, last, shown_ms, shown_at, runs, traces: Vec::new(), _permits: permits }
    }

    /// The same batch, with the fan-outs of its traced publishes.
    pub(super) fn traced(self, traces: Vec<Arc<FanOutTrace>>) -> Self {
        Self { traces, ..self }
    }

    /// The fan-outs of its traced publishes.
    pub(super) fn traces(&self) -> &[Arc<FanOutTrace>] {
        &self.traces
    }

    /// When its events were shown to readers, in milliseconds since 1970.
    pub fn shown_ms(&self) -> u64 {
        self.shown_ms
    }

    /// How long ago that was.
    pub(super) fn since_shown(&self) -> Duration {
        self.shown_at.elapsed()
    }

    /// Its first seq.
    pub fn first(&self) -> Seq {
        self.first
    }

    /// Its last seq.
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Its channels.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}

impl Run {
    /// The runs of events that are in log order, in the order of their first events.
    pub(super) fn by_channel(events: Vec<(Arc<ChannelEntry>, Arc<Event>)>) -> Vec<Self> {
        let mut runs: Vec<Self> = Vec::new();
        let mut known: FxHashMap<ChannelId, usize> = FxHashMap::default();
        let mut current = 0;
        for (entry, event) in events {
            // Most commits are of one channel, and need no table.
            if runs.get(current).is_none_or(|run| run.entry.id() != entry.id()) {
                if let [only] = &runs[..] {
                    known.insert(only.entry.id(), 0);
                }
                current = match known.get(&entry.id()) {
                    Some(known) => *known,
                    None => {
                        if !runs.is_empty() {
                            known.insert(entry.id(), runs.len());
                        }
                        runs.push(Self { entry, events: Vec::new() });
                        runs.len() - 1
                    }
                };
            }
            runs[current].events.push(event);
        }
        runs
    }

    /// Frame bytes of its events.
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.bytes().len()).sum()
    }

    /// Whether its last event closes the channel.
    pub fn closes(&self) -> bool {
        self.events.last().is_some_and(|event| event.kind == EventKind::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Registry,
        core::Limits,
        model::{ChannelName, Draft, Epoch, NewEvent, Position},
    };

    #[test]
    fn runs_are_in_the_order_of_their_first_events_and_keep_that_of_each_channel() {
        let registry = Registry::new(&Limits::default());
        let runs = |names: &str| -> Vec<(String, Vec<u64>)> {
            let events = names.chars().zip(1..).map(|(name, seq)| {
                let name = ChannelName::parse(&name.to_string()).expect("a name");
                let entry = registry.directory().find_or_create(&name, 0).expect("room");
                let position = Position { epoch: Epoch::new(0, 1), seq: Seq(seq) };
                let event = Event {
                    seq: position.seq,
                    epoch: position.epoch,
                    time_ms: 0,
                    accepted_ms: 0,
                    channel: name,
                    kind: EventKind::Published,
                    frame: Draft::new(&NewEvent::message("x")).finish(position),
                };
                (entry, Arc::new(event))
            });
            let runs = Run::by_channel(events.collect()).into_iter();
            let seqs = |run: &Run| run.events.iter().map(|event| event.seq.0).collect();
            runs.map(|run| (run.entry.name().to_string(), seqs(&run))).collect()
        };
        let run = |name: &str, seqs: &[u64]| (name.to_owned(), seqs.to_vec());
        assert_eq!(runs(""), []);
        assert_eq!(runs("aa"), [run("a", &[1, 2])]);
        assert_eq!(runs("aba"), [run("a", &[1, 3]), run("b", &[2])]);
        let three = [run("b", &[1, 2, 5, 7]), run("a", &[3, 6]), run("c", &[4])];
        assert_eq!(runs("bbacbab"), three);
    }
}
