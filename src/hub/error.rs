//! Errors of a hub's operations.

use thiserror::Error;

use super::event_rate::EventRate;
use crate::{backend::DirectoryFull, model::ChannelName};

/// A publish was not accepted. None of its events is in the log, except perhaps with
/// [`Unknown`](PublishError::Unknown).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No event at all.
    #[error("there is nothing to publish")]
    Empty,
    /// More events than a batch may have.
    #[error("a batch has at most {events_max} events")]
    TooMany {
        /// The limit.
        events_max: usize,
    },
    /// The channel has been closed.
    #[error("the channel `{0}` is closed")]
    Closed(ChannelName),
    /// The idempotency key was used for a different publish.
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// No permits within `publish.wait_ms`.
    #[error("the hub is busy: no room within {wait_ms} ms")]
    Overloaded {
        /// How long the publisher waited.
        wait_ms: u32,
    },
    /// The rate limit of the publisher or of a channel is exceeded.
    #[error("{} too fast: there is room again in {wait_ms} ms", .rate.description())]
    TooFast {
        /// The limit.
        rate: EventRate,
        /// The time after which a retry is within the limit.
        wait_ms: u64,
    },
    /// The batch alone is larger than the burst of a rate limit.
    #[error("{} with more than {events_max} events at once", .rate.description())]
    OverBurst {
        /// The limit.
        rate: EventRate,
        /// The burst.
        events_max: u32,
    },
    /// The publisher's rate of new channels is exceeded.
    #[error("too many new channels: there may be another in {wait_ms} ms")]
    TooManyNewChannels {
        /// The time after which another channel may be created.
        wait_ms: u64,
    },
    /// The memory budget of request bodies is exhausted.
    #[error("the memory for bodies of publishes under way is used up ({bytes_max} bytes)")]
    TooManyBodies {
        /// The limit.
        bytes_max: u64,
    },
    /// The hub's limit of channels is reached, so a channel cannot be created.
    #[error(transparent)]
    DirectoryFull(#[from] DirectoryFull),
    /// The disk of the log is full.
    #[error("the disk of the hub, or the server that keeps its log, is full")]
    StorageFull,
    /// The storage server of the shared log could not be reached in time.
    #[error("the server that keeps the log cannot be reached; nothing was published")]
    BackendAway,
    /// The hub is going down, or its log has failed before the events were in it.
    #[error("the hub is going down")]
    GoingDown,
    /// The events did not become durable in time, or the log failed meanwhile: they may be in it or
    /// not. A retry under the same idempotency key is exact.
    #[error("it is not known whether the events are in the log")]
    Unknown,
}

impl PublishError {
    /// The word for the error in metrics and traces.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooMany { .. } => "too_many_events",
            Self::Closed(_) => "closed",
            Self::KeyReused => "key_reused",
            Self::Overloaded { .. } => "overloaded",
            Self::TooFast { rate, .. } => rate.as_str(),
            Self::OverBurst { .. } => "over_burst",
            Self::TooManyNewChannels { .. } => "too_many_new_channels",
            Self::TooManyBodies { .. } => "bodies",
            Self::DirectoryFull(_) => "too_many_channels",
            Self::StorageFull => "storage_full",
            Self::BackendAway => "backend_away",
            Self::GoingDown => "going_down",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the same publish may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Overloaded { .. }
                | Self::TooManyBodies { .. }
                | Self::TooFast { .. }
                | Self::TooManyNewChannels { .. }
                | Self::DirectoryFull(_)
                | Self::StorageFull
                | Self::BackendAway
                | Self::GoingDown
                | Self::Unknown
        )
    }
}

/// A subscription was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Every channel that the subscription names is closed, and the client has all their events.
    #[error("every channel named is closed")]
    Closed,
    /// The hub's connection limit is reached.
    #[error("the hub has as many connections as it may ({connections_max})")]
    TooManyConnections {
        /// The limit.
        connections_max: u32,
    },
    /// All replay permits were in use for too long.
    #[error("the limit of streams that are being sent history is reached ({replays_max})")]
    TooManyReplays {
        /// The limit.
        replays_max: u32,
    },
    /// The connection limit of the client's address is reached.
    #[error("this address has as many connections as it may ({connections_max})")]
    TooManyOfAddress {
        /// The limit.
        connections_max: u32,
    },
    /// The connection limit of the client's subject is reached.
    #[error("this subject has as many connections as it may ({connections_max})")]
    TooManyOfSubject {
        /// The limit.
        connections_max: u32,
    },
    /// The client's rate of new channels is exceeded.
    #[error("too many new channels: there may be another in {wait_ms} ms")]
    TooManyNewChannels {
        /// The time after which another channel may be created.
        wait_ms: u64,
    },
    /// The hub's limit of channels is reached, so a channel cannot be created.
    #[error(transparent)]
    DirectoryFull(#[from] DirectoryFull),
    /// This hub did not receive the events up to the start position in time.
    #[error("this hub has not reached the position yet")]
    NotCaughtUp,
    /// Too many readers wait already for events that are on disk.
    #[error("too many readers wait for the disk already")]
    HistoryBusy,
    /// The next events cannot be read from disk.
    #[error("the events at this position cannot be read from the hub's disk")]
    HistoryUnreadable,
    /// The hub is going down.
    #[error("the hub is going down")]
    GoingDown,
}

impl SubscribeError {
    /// Whether the same subscription may succeed later.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Closed | Self::HistoryUnreadable)
    }

    /// Whether a limit of the client is reached, rather than one of the hub.
    pub fn is_client_limit(&self) -> bool {
        matches!(
            self,
            Self::TooManyOfAddress { .. }
                | Self::TooManyOfSubject { .. }
                | Self::TooManyNewChannels { .. }
        )
    }

    /// The metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::TooManyConnections { .. } => "too_many_connections",
            Self::TooManyReplays { .. } => "too_many_replays",
            Self::TooManyOfAddress { .. } => "too_many_of_address",
            Self::TooManyOfSubject { .. } => "too_many_of_subject",
            Self::TooManyNewChannels { .. } => "too_many_new_channels",
            Self::DirectoryFull(_) => "too_many_channels",
            Self::NotCaughtUp => "not_caught_up",
            Self::HistoryBusy => "history_busy",
            Self::HistoryUnreadable => "history_unreadable",
            Self::GoingDown => "going_down",
        }
    }
}

/// A channel was not closed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseError {
    /// There is no such channel.
    #[error("there is no channel `{0}`")]
    NoSuchChannel(ChannelName),
    /// The closing event was not accepted.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
