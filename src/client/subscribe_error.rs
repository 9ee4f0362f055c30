//! Why a subscription ends, for good or for now.

use http::StatusCode;
use thiserror::Error;

use super::certificate::CertificateRejected;
use super::failure::Failure;
use super::link::ExchangeError;
use super::problem::Problem;
use super::sse::SseError;

/// Why a subscription ended for good.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The hub refused, and would refuse again.
    #[error("the hub refused: {0}")]
    Refused(Problem),
    /// Its certificate is not accepted.
    #[error(transparent)]
    Certificate(#[from] CertificateRejected),
    /// The answer is not an event stream, so this is not a hub.
    #[error("the answer is `{0}`, not an event stream")]
    NotAStream(String),
    /// The stream broke a bound.
    #[error("the stream cannot be read on")]
    Stream(#[from] SseError),
    /// The answer to a poll broke its bound.
    #[error("the answer to a poll is larger than {0} bytes")]
    AnswerTooLarge(usize),
    /// The hub sent what this client does not understand.
    #[error("the hub sent {what} that makes no sense: {text}")]
    Malformed {
        /// What it should have been.
        what: &'static str,
        /// Its beginning.
        text: String,
    },
}

/// How an exchange ends a connection.
pub(super) enum Break {
    Failed(Failure),
    Closed,
    Fatal(SubscribeError),
}

impl From<Failure> for Break {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<SubscribeError> for Break {
    fn from(error: SubscribeError) -> Self {
        Self::Fatal(error)
    }
}

impl From<ExchangeError> for Break {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Failed(failure) => Self::Failed(failure),
            ExchangeError::Refused(problem) if problem.status == StatusCode::GONE => Self::Closed,
            ExchangeError::Refused(problem) => Self::Fatal(SubscribeError::Refused(problem)),
            ExchangeError::Certificate(rejected) => Self::Fatal(rejected.into()),
            ExchangeError::TooLarge(max) => Self::Fatal(SubscribeError::AnswerTooLarge(max)),
        }
    }
}
