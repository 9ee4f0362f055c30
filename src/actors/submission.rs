//! What a publisher hands to the log, and the answer.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    backend::ChannelEntry,
    core::IdempotencyKey,
    model::{ChannelName, Draft, EventKind, Position},
    telemetry::PublishTrace,
};

/// Events to append together: all of them, or none.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) events: Vec<(Arc<ChannelEntry>, Draft)>,
    pub(crate) kind: EventKind,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) permits: Vec<OwnedSemaphorePermit>,
    /// Of a publish that is traced.
    pub(crate) trace: Option<Arc<PublishTrace>>,
}

/// A submission in the log's queue, and where its answer goes.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) submission: Submission,
    pub(super) reply: Reply,
}

pub(super) type Reply = oneshot::Sender<Result<Committed, AppendError>>;

/// The events are in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) events: usize,
    /// Whether this repeats the answer to an earlier submission under the same key.
    pub(crate) replayed: bool,
}

/// Why a submission was not appended, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// The channel takes no more events.
    Closed(ChannelName),
    /// The log takes nothing more.
    LogClosed,
    /// Another body was published under the key.
    KeyReused,
    /// The queue is full, which the permits rule out.
    QueueFull,
    /// The disk, or the server that keeps the log, is full.
    StorageFull,
    /// The server that keeps the log could not be reached in time.
    BackendAway,
    /// It did not become durable in time, or the log failed: the events may be in it or not.
    Unknown,
}

impl AppendError {
    /// A word for traces.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::LogClosed => "going_down",
            Self::KeyReused => "key_reused",
            Self::QueueFull => "queue_full",
            Self::StorageFull => "storage_full",
            Self::BackendAway => "backend_away",
            Self::Unknown => "unknown",
        }
    }
}

impl Submission {
    /// What its events cost together.
    pub(super) fn cost(&self) -> usize {
        self.events.iter().map(|(_, draft)| cost(draft)).sum()
    }
}

/// What an event costs its publisher and the log: one permit, and one more per KiB.
pub(crate) fn cost(draft: &Draft) -> usize {
    1 + draft.len() / 1024
}
