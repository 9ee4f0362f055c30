//! What the log hands to the shards: the events of one commit, in log order, by channel.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    backend::ChannelEntry,
    model::{Event, EventKind, Seq},
};

/// The events of one commit. The publishers' permits travel with it and are free again when the
/// last shard has let go of it, however it came to do so.
#[derive(Debug)]
pub struct Batch {
    first: Seq,
    last: Seq,
    runs: Vec<Run>,
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
    /// A batch of at least one event; `runs` are in the order of their first events.
    pub fn new(first: Seq, last: Seq, runs: Vec<Run>, permits: Vec<OwnedSemaphorePermit>) -> Self {
        debug_assert!(!runs.is_empty() && first <= last);
        Self { first, last, runs, _permits: permits }
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
    /// Frame bytes of its events.
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.bytes().len()).sum()
    }

    /// Whether its last event closes the channel.
    pub fn closes(&self) -> bool {
        self.events.last().is_some_and(|event| event.kind == EventKind::Closed)
    }
}
