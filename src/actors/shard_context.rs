//! What all shards of a hub work on.

use std::sync::Arc;

use super::{
    clock::Clock, inbox::Inboxes, log_reads::LogReads, poll_times::PollTimes,
    shards_handle::ShardsHandle,
};
use crate::{backend::EventStore, core::ConnectionLimits, telemetry::Metrics};

/// What a shard uses of its hub.
#[derive(Debug)]
pub(crate) struct ShardContext {
    pub(crate) store: Arc<EventStore>,
    /// With a log on disk.
    pub(crate) log_reads: Option<Arc<LogReads>>,
    pub(crate) inboxes: Arc<Inboxes>,
    pub(crate) shards: Arc<ShardsHandle>,
    pub(crate) limits: ConnectionLimits,
    /// How long events of small channels gather at most on a busy shard, in milliseconds.
    pub(crate) gather_max_ms: u64,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) poll_times: Arc<PollTimes>,
    pub(crate) clock: Clock,
}
