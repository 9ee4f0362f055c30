//! The key under which events are counted, and the rate limit that was exceeded.

use std::sync::Arc;

use crate::model::{ClientAddress, labels};

/// The key under which a publisher's events are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The subject of a token, from whatever address it publishes.
    Subject(Arc<str>),
    /// An address, for requests without a subject.
    Client(ClientAddress),
}

labels! {
    /// The rate limit that a publisher exceeds.
    #[non_exhaustive]
    pub enum EventRate {
        /// The limit of a subject.
        Subject = "subject_rate",
        /// The limit of an address.
        Address = "address_rate",
        /// The limit of a channel, for all its publishers together.
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
