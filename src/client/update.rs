//! What a subscription reports: events, and what happens to the channels and to the connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::position::Position;

/// One thing that a subscriber learns.
#[derive(Debug)]
#[non_exhaustive]
pub enum Update {
    /// The hub has registered the subscription: what is published from here on will come.
    Opened {
        /// Where it stands.
        position: Position,
    },
    /// An event.
    Event(Event),
    /// Events are missing: history no longer holds them, or the hub skipped them.
    Gap(Gap),
    /// A channel was closed and brings nothing more.
    Closed {
        /// Its name.
        channel: String,
    },
    /// The connection is lost, and another one will be tried.
    Reconnecting {
        /// Why it is lost.
        failure: Failure,
        /// How long until the next attempt.
        wait: Duration,
    },
}

/// An event as it reaches subscribers: the envelope of the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The position right after this event.
    pub id: String,
    /// The channel it was published to.
    pub channel: String,
    /// Its type, if the publisher gave one.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// When the hub took it: RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// Its data.
    pub data: String,
}

/// What is missing, as far as the hub knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Gap {
    /// `evicted`, `epoch`, `unknown_position`, `slow` or `search_limit`.
    pub reason: String,
    /// The position that was asked for.
    #[serde(default)]
    pub requested: Option<String>,
    /// The oldest position that could have been served.
    #[serde(default)]
    pub oldest: Option<String>,
    /// The channel that misses them, if it is one.
    #[serde(default)]
    pub channel: Option<String>,
}
