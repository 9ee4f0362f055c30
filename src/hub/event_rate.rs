//! Whose events are counted, and against which rate.

use std::sync::Arc;

use crate::model::ClientAddress;

/// Whose events are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The subject of a token, wherever it publishes from.
    Subject(Arc<str>),
    /// An address, of those who have shown no subject.
    Client(ClientAddress),
}

/// The rate limit that a publisher is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventRate {
    /// What a subject may publish.
    Subject,
    /// What those at an address may.
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

    /// Who is too fast, in a sentence.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Subject => "this subject publishes",
            Self::Address => "this address publishes",
            Self::Channel => "the channel is published to",
        }
    }
}
