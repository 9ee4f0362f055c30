//! Temporary failures: an attempt that may be repeated.

use std::error::Error as StdError;
use std::time::Duration;

use thiserror::Error;

use super::problem::Problem;

/// A temporary failure. The report of it says which request failed, and whether another attempt
/// follows.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// No connection could be made, or it broke.
    #[error("cannot reach the hub")]
    Connection(#[source] Box<dyn StdError + Send + Sync>),
    /// The hub, or a proxy before it, refused for now.
    #[error("{problem}")]
    Refused {
        /// The reason that the hub gave.
        problem: Problem,
        /// How long the hub asked to wait, at most five minutes.
        retry_after: Option<Duration>,
    },
    /// Nothing came for so long that the connection must be dead.
    #[error("nothing came for {:.1} s", .0.as_secs_f64())]
    Silence(Duration),
    /// The hub ended the stream.
    #[error("the stream ended")]
    Ended,
    /// The hub ended the stream before it began, and said why in a comment.
    #[error("the hub refused for now: {0}")]
    RefusedInStream(String),
}

impl Failure {
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
