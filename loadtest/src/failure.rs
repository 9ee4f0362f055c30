//! Why a run has no outcome.

use std::io;
use std::time::Duration;

use crate::outcome::Verified;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// This process or the machine could not.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The server answered otherwise than it should.
    #[error("the server answered {request} with: {answer}")]
    Refused {
        /// What was asked.
        request: String,
        /// The beginning of the answer.
        answer: String,
    },
    /// Events were lost, repeated, reordered or changed.
    #[error("{first}; in all {verified:?}")]
    Faulty {
        /// The first faults, in words.
        first: String,
        /// The counts.
        verified: Verified,
    },
    /// Streams that were to stay have been ended by the server.
    #[error("of {expected} streams the server has {open}: the others were ended")]
    Ended {
        /// Streams that there should be.
        expected: usize,
        /// Streams that the server says there are.
        open: usize,
    },
    /// Something took longer than it ever should.
    #[error("gave up after {waited:?}: {what}")]
    Late {
        /// What was waited for, and how far it came.
        what: String,
        /// For how long.
        waited: Duration,
    },
    /// The scenario needs what this machine or this server does not have.
    #[error("cannot run: {0}")]
    Unsupported(String),
}

impl Failure {
    /// An I/O error with what was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// The message and those of its causes, in one line.
    pub fn in_full(&self) -> String {
        in_full(self)
    }
}

/// An error's message and those of its causes, in one line.
pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
