//! Errors of a hub's operations.

use thiserror::Error;

use super::event_rate::EventRate;
use crate::{backend::DirectoryFull, model::ChannelName};

/// A publish was not accepted; nothing of it was, unless it is [`Unknown`](PublishError::Unknown).
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
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// No room within the publish wait time.
    #[error("the hub is busy: no room within {wait_ms} ms")]
    Overloaded {
        /// How long it waited.
        wait_ms: u32,
    },
    /// Over the rate limit of its publisher or channel.
    #[error("{} too fast: there is room again in {wait_ms} ms", .rate.description())]
    TooFast {
        /// Which limit it is over.
        rate: EventRate,
        /// When there is room again.
        wait_ms: u64,
    },
    /// More events than the burst of a rate limit.
    #[error("{} with more than {events_max} events at once", .rate.description())]
    OverBurst {
        /// Which limit it is over.
        rate: EventRate,
        /// The burst.
        events_max: u32,
    },
    /// More new channels than its publisher may create.
    #[error("too many new channels: there may be another in {wait_ms} ms")]
    TooManyNewChannels {
        /// When there may be another.
        wait_ms: u64,
    },
    /// No room for its body beside the others.
    #[error("the bodies of publishes under way fill the room they have ({bytes_max} bytes)")]
    TooManyBodies {
        /// The limit.
        bytes_max: u64,
    },
    /// A channel would have to be created.
    #[error(transparent)]
    DirectoryFull(#[from] DirectoryFull),
    /// The disk of the log is full.
    #[error("the disk of the hub, or the server that keeps its log, is full")]
    StorageFull,
    /// The server that keeps the log could not be reached in time.
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
    /// Every channel it names is closed, and it has all their events.
    #[error("every channel named is closed")]
    Closed,
    /// As many connections as the hub may have.
    #[error("the hub has as many connections as it may ({connections_max})")]
    TooManyConnections {
        /// The limit.
        connections_max: u32,
    },
    /// As many streams as may be sent history at a time, and none was through with it in time.
    #[error("as many streams as may ({replays_max}) are being sent what they missed")]
    TooManyReplays {
        /// The limit.
        replays_max: u32,
    },
    /// As many connections as its address may have.
    #[error("this address has as many connections as it may ({connections_max})")]
    TooManyOfAddress {
        /// The limit.
        connections_max: u32,
    },
    /// As many connections as its subject may have.
    #[error("this subject has as many connections as it may ({connections_max})")]
    TooManyOfSubject {
        /// The limit.
        connections_max: u32,
    },
    /// More new channels than its client may create.
    #[error("too many new channels: there may be another in {wait_ms} ms")]
    TooManyNewChannels {
        /// When there may be another.
        wait_ms: u64,
    },
    /// A channel would have to be created.
    #[error(transparent)]
    DirectoryFull(#[from] DirectoryFull),
    /// It starts at a position that this hub has not come to in time.
    #[error("this hub has not come to the position yet")]
    NotCaughtUp,
    /// The hub is going down.
    #[error("the hub is going down")]
    GoingDown,
}

impl SubscribeError {
    /// Whether the same subscription may succeed later.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// Whether it is the client that has too much, and not the hub.
    pub fn is_client_limit(&self) -> bool {
        matches!(
            self,
            Self::TooManyOfAddress { .. }
                | Self::TooManyOfSubject { .. }
                | Self::TooManyNewChannels { .. }
        )
    }

    /// The word in metrics.
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
    /// As for a publish.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
