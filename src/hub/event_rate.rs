//! Under which key events are counted, and which rate limit was exceeded.

use std::sync::Arc;

use crate::model::ClientAddress;

/// The key under which a publisher's events are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The subject of a token, wherever it publishes from.
    Subject(Arc<str>),
    /// An address, for requests without a subject.
    Client(ClientAddress),
}

/// The rate limit that a publisher exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventRate {
    /// That of a subject.
    Subject,
    /// That of an address.
    Address,
    /// That of a channel, for all its publishers together.
    Channel,
}

impl EventRate {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject_rate",
            Self::Address => "address_rate",
            Self::Channel => "channel_rate",
        }
    }

    /// The limit, in a sentence.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Subject => "this subject publishes",
            Self::Address => "this address publishes",
            Self::Channel => "the channel is published to",
        }
    }
}
