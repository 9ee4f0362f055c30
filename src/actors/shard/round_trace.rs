//! A round with events of traced publishes. It is recorded when it is dropped, so the loop that
//! sends does nothing for it.

use std::{sync::Arc, time::Instant};

use crate::{
    actors::{batch::Batch, fan_out_trace::FanOutTrace},
    backend::ChannelId,
};

/// The round. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct RoundTrace {
    began: Instant,
    shard: usize,
    lane: &'static str,
    connections: usize,
    fan_outs: Vec<Arc<FanOutTrace>>,
}

impl RoundTrace {
    /// The trace of a round that begins now on a shard, with those events of these batches whose
    /// channels `is_sent` names; `None` if none of them is of a traced publish.
    #[inline]
    pub(super) fn begin(
        shard_and_lane: (usize, &'static str),
        batches: &[Arc<Batch>],
        connections: usize,
        is_sent: impl FnMut(ChannelId) -> bool,
    ) -> Option<Box<Self>> {
        match batches.iter().any(|batch| !batch.traces().is_empty()) {
            true => Self::begin_traced(shard_and_lane, batches, connections, is_sent),
            false => None,
        }
    }

    /// As [`begin`](Self::begin), for batches of which one has a trace.
    #[cold]
    fn begin_traced(
        (shard, lane): (usize, &'static str),
        batches: &[Arc<Batch>],
        connections: usize,
        mut is_sent: impl FnMut(ChannelId) -> bool,
    ) -> Option<Box<Self>> {
        let mut fan_outs = Vec::new();
        for batch in batches {
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
        let times = (self.began, Instant::now());
        for fan_out in self.fan_outs.drain(..) {
            fan_out.round_ended(times, self.shard, self.lane, self.connections);
        }
    }
}
