//! Whose events are counted, and against which rate.

use std::sync::Arc;

use crate::model::ClientAddress;

/// What events are counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The subject of a token, wherever it publishes from.
    Subject(Arc<str>),
    /// An address, for requests without a subject.
    Client(ClientAddress),
}

/// The rate limit that a publisher is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventRate {
    /// What a subject may publish.
    Subject,
    /// What an address may publish.
    Address,
    /// What a channel takes, from all publishers.
    Channel,
}

impl EventRate {
    /// The word in metrics.
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
