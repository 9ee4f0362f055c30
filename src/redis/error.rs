//! What can go wrong with a backend.

use std::{io, time::Duration};

use thiserror::Error;

/// A command has no result, or the server cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedisError {
    /// There is no connection: the command was not sent.
    #[error("it cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The connection broke after the command was sent, or there was no answer in time: whether it was
    /// performed is not known.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The server refused the command, and has not performed it.
    #[error("it answers {0:?}")]
    Refused(String),
    /// The server has no memory left.
    #[error("its memory is full")]
    Full,
    /// The answer is not one to this command.
    #[error("its answer is not understood: {0}")]
    Unexpected(&'static str),
    /// An entry of a later version of the hub.
    #[error("event {seq} was written by a later version of the hub (format {format})")]
    NewerFormat {
        /// Its number.
        seq: u64,
        /// Its format.
        format: u8,
    },
    /// Something in the stream that no hub has written.
    #[error("entry {0} of the stream was not written by a hub")]
    Foreign(String),
    /// A setting of the server that would lose events without a sign.
    #[error("{0}")]
    Unsuitable(String),
}

impl RedisError {
    /// Whether an attempt later cannot succeed unless somebody changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NewerFormat { .. } | Self::Foreign(_) | Self::Unsuitable(_) => true,
            Self::Refused(answer) => {
                ["NOAUTH", "WRONGPASS", "NOPERM", "ERR unknown command", "ERR DB index"]
                    .iter()
                    .any(|word| answer.starts_with(word))
            }
            _ => false,
        }
    }

    /// Whether a command may have been performed all the same.
    pub fn leaves_outcome_open(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Unexpected(_))
    }

    /// An error of a server's answer.
    pub(super) fn answered(text: &str) -> Self {
        if text.starts_with("OOM ") {
            return Self::Full;
        }
        // A server may repeat parts of a command: no more of it than its first words.
        Self::Refused(text.chars().filter(|c| !c.is_control()).take(ANSWER_CHARS_MAX).collect())
    }

    pub(super) fn timed_out(after: Duration) -> Self {
        let text = format!("no answer within {} ms", after.as_millis());
        Self::Broken(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

/// What is kept of an error of the server.
const ANSWER_CHARS_MAX: usize = 120;
