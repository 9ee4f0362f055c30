//! The handle to a hub, and what it holds.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Semaphore};

use super::{
    admission::ConnectionAdmission, answers::AnswerBudget, bodies::BodyBudget,
    channel_creation::ChannelCreator, quotas::Quotas, throttled_logs::ThrottledLogs,
};
use crate::{
    actors::{Clock, Lifecycle, Log, LogReads, PollTimes, RootHandle, ShardsHandle},
    backend::{EventStore, Registry},
    core::Limits,
    disk::TransientChannels,
    telemetry::{Metrics, Samples},
};

/// A handle to a running hub. The hub stops when [`Hub::shut_down`] is called; dropping handles
/// does not stop it.
#[derive(Clone)]
pub struct Hub(pub(super) Arc<HubParts>);

/// The parts of a hub.
pub(super) struct HubParts {
    /// Replaced as a whole by a change.
    pub(super) limits: ArcSwap<Limits>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    /// The hub's figures of the last minutes.
    pub(super) samples: Arc<Samples>,
    pub(super) throttled_logs: ThrottledLogs,
    // Channels and their events.
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<EventStore>,
    pub(super) log: Arc<Log>,
    /// The transient channels that the log on disk has noted. The lock is held while rules change.
    pub(super) transient: Mutex<TransientChannels>,
    /// Readers of the log on disk, if there is one.
    pub(super) log_reads: Option<Arc<LogReads>>,
    pub(super) poll_times: Arc<PollTimes>,
    // Actors.
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) shards: Arc<ShardsHandle>,
    pub(super) root: RootHandle,
    // Limits of clients.
    pub(super) connections: ConnectionAdmission,
    /// Permits to list connections for clients that are not operators: a page examines those of all
    /// clients.
    pub(super) subject_lists: Semaphore,
    pub(super) channel_creator: ChannelCreator,
    pub(super) quotas: Quotas,
    pub(super) bodies: BodyBudget,
    pub(super) answers: AnswerBudget,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
