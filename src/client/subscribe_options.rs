//! What to follow, and how.

use std::time::Duration;

use super::position::Position;
use super::sse::SseLimits;

/// How events travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Transport {
    /// One response that does not end.
    #[default]
    Sse,
    /// One request after the other, each waiting for events.
    Poll,
}

/// What to follow, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// Names and patterns.
    pub channels: Vec<String>,
    /// Only events of these types; empty for all.
    pub types: Vec<String>,
    /// Where to begin.
    pub from: Position,
    /// Begins with so many of the latest events of each channel, 1 to 1,000, if `from` is
    /// [`Position::NOW`].
    pub last: Option<u32>,
    /// How events travel.
    pub transport: Transport,
    /// A stream on which nothing comes for this long counts as broken: 60 s by default, four
    /// heartbeats of a hub.
    pub silence_max: Duration,
    /// How long a poll waits at the hub, 20 s by default; a hub allows 60 s.
    pub poll_timeout: Duration,
    /// Events in one answer to a poll, 100 by default; a hub allows 1,000.
    pub poll_limit: u32,
    /// What a stream may hold back; past it the subscription ends with an error.
    pub sse_limits: SseLimits,
    /// Bytes of one answer to a poll, 64 MiB by default; past it the subscription ends with an
    /// error.
    pub poll_bytes_max: usize,
}

impl SubscribeOptions {
    /// Follows `channels` from now on, over Server-Sent Events.
    pub fn new(channels: Vec<String>) -> Self {
        Self {
            channels,
            types: Vec::new(),
            from: Position::NOW,
            last: None,
            transport: Transport::Sse,
            silence_max: Duration::from_secs(60),
            poll_timeout: Duration::from_secs(20),
            poll_limit: 100,
            sse_limits: SseLimits::default(),
            poll_bytes_max: 64 * 1024 * 1024,
        }
    }
}
