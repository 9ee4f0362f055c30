//! Events as publishers send them.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The type of an event, as in the `event:` field of a stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The type of events that name none, as in the SSE specification.
    pub const DEFAULT: &'static str = "message";
    /// Longest type, in bytes.
    pub const BYTES_MAX: usize = 255;
    /// The hub's own types begin with this.
    pub const RESERVED_PREFIX: &'static str = "visnyk.";

    /// Checks a type that a publisher sends or a subscriber filters by.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        if text.is_empty() {
            return Err(EventTypeError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(EventTypeError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(EventTypeError::Control);
        }
        if text.starts_with(Self::RESERVED_PREFIX) {
            return Err(EventTypeError::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not an event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventTypeError {
    /// No text at all.
    #[error("an event type must not be empty; leave it out instead")]
    Empty,
    /// More than 255 bytes.
    #[error("an event type has at most 255 bytes")]
    TooLong,
    /// A control character.
    #[error("an event type must not contain control characters")]
    Control,
    /// The prefix of the hub's own events.
    #[error("event types beginning with `visnyk.` are the hub's own")]
    Reserved,
}

/// An event as a publisher sends it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewEvent {
    /// The payload, any text. CR LF and CR are carried as LF.
    pub data: String,
    /// The type; `None` is a plain message.
    pub event_type: Option<EventType>,
    /// A reconnection time for the receivers, in milliseconds; [`RETRY_MS_MAX`] at most, if it
    /// comes over HTTP.
    pub retry_ms: Option<u32>,
}

/// The longest reconnection time that a publisher may ask for: an hour. Timers of some clients take
/// one of 25 days for none.
pub const RETRY_MS_MAX: u32 = 3_600_000;

impl NewEvent {
    /// A plain message.
    pub fn message(data: impl Into<String>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }
}
