//! The last stage of a commit, *show*: one function, whatever made the events durable.

use std::{sync::Arc, time::Instant};

use super::{
    batch::{Batch, Run},
    channels_handle::ChannelsHandle,
    clock::Clock,
    committer::{Answer, CommitTrace, Prepared},
    fan_out_trace::{FanOutTrace, TracedEvents},
    inbox::Inboxes,
    poll_times::PollTimes,
};
use crate::{
    backend::EventStore,
    telemetry::{Metrics, Step},
};

/// Where durable events go: histories, publishers, shards.
#[derive(Debug)]
pub(crate) struct ShowStage {
    pub(crate) store: Arc<EventStore>,
    pub(crate) inboxes: Arc<Inboxes>,
    pub(crate) channels: Arc<ChannelsHandle>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) poll_times: Arc<PollTimes>,
    pub(crate) clock: Clock,
}

impl ShowStage {
    /// Shows a commit. One at a time, and in the order in which they were prepared.
    pub(super) fn show(&self, prepared: Prepared) {
        let Prepared { events, answers, permits, now, trace } = prepared;
        let range = match (events.first(), events.last()) {
            (Some((_, first)), Some((_, last))) => Some((first.seq, last.seq)),
            _ => None,
        };
        let is_traced = trace.is_some() || answers.iter().any(|answer| answer.trace.is_some());
        let began = is_traced.then(Instant::now);
        for (entry, event) in &events {
            self.store.append(entry, event);
        }
        if let Some((_, last)) = range {
            self.store.commit(last);
        }
        let traces = match began {
            Some(began) => shown(&answers, trace, began),
            None => Vec::new(),
        };
        // The publishers first: their answer does not wait for the fan-out.
        for Answer { reply, outcome, .. } in answers {
            // A publisher that is gone does not need it.
            let _ = reply.send(outcome);
        }
        let Some((first, last)) = range else { return };
        self.metrics.events_published.inc_by(events.len() as u64);
        let runs = Run::by_channel(events);
        let bytes: usize = runs.iter().map(Run::bytes).sum();
        self.metrics.bytes_published.inc_by(bytes as u64);
        for run in &runs {
            run.entry.touch(now.ms);
            self.channels.ensure_actor(&run.entry);
        }
        // Later than `now` by what it took to make them durable.
        let shown_ms = self.clock.now_ms();
        self.poll_times.shown(shown_ms);
        let batch = Batch::new(first, last, shown_ms, runs, permits);
        let batch = Arc::new(batch.traced(traces));
        // Asked after the head has moved.
        let registry = self.store.registry();
        let targets = registry.target_shards(batch.runs().iter().map(|run| &*run.entry));
        self.inboxes.deliver(&batch, targets);
        if batch.runs().iter().any(Run::closes) {
            self.channels.closed();
        }
    }
}

/// Records that the events of traced publishes are shown, and begins their fan-out. Before the
/// publishers are answered, so that it lies within the append.
fn shown(
    answers: &[Answer],
    trace: Option<Box<CommitTrace>>,
    began: Instant,
) -> Vec<Arc<FanOutTrace>> {
    let ended = Instant::now();
    let mut traces = trace.map_or_else(Vec::new, |trace| trace.publishes);
    traces.extend(answers.iter().filter_map(Answer::traced_events));
    let begin = |traced: TracedEvents| {
        traced.trace.step(Step::Show, (began, ended), Vec::new(), None);
        Arc::new(FanOutTrace::new(traced, ended))
    };
    traces.into_iter().map(begin).collect()
}
