//! Why a hub process ended.

use std::io;

use thiserror::Error;

use super::{AuthenticationError, TlsError};
use crate::hub::StartError;

/// Why a hub process failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// An address cannot be listened on, or signals cannot be received.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The actors did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The keys of the settings cannot be used.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// The certificate of the settings or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A part without which the hub cannot run has failed.
    #[error("{0}")]
    Failed(String),
}
