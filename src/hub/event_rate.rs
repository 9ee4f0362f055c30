//! Under which key events are counted, and which rate limit was exceeded.

use std::sync::Arc;

use crate::model::{ClientAddress, labels};

/// The key under which a publisher's events are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The subject of a token, wherever it publishes from.
    Subject(Arc<str>),
    /// An address, for requests without a subject.
    Client(ClientAddress),
}

labels! {
    /// The rate limit that a publisher exceeds.
    #[non_exhaustive]
    pub enum EventRate {
        /// That of a subject.
        Subject = "subject_rate",
        /// That of an address.
        Address = "address_rate",
        /// That of a channel, for all its publishers together.
        Channel = "channel_rate",
    }
}

impl EventRate {
    /// The limit, in a sentence.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Subject => "this subject publishes",
            Self::Address => "this address publishes",
            Self::Channel => "the channel is published to",
        }
    }
}
