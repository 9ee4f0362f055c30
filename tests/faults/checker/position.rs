//! A position, taken apart: only tests do that.

use std::fmt;

/// An epoch and a number in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    pub(super) epoch: String,
    pub(super) seq: u64,
}

impl Position {
    /// None for a text of another form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.split_once('-')?;
        Some(Self { epoch: epoch.to_owned(), seq: seq.parse().ok()? })
    }

    /// That of an event so many behind this one.
    pub(super) fn plus(&self, events: u64) -> Self {
        Self { epoch: self.epoch.clone(), seq: self.seq + events }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}
