//! Why a command failed, and the exit code that says so.

use std::error::Error;
use std::process::ExitCode;

use visnyk::server::settings::SettingsErrors;
use visnyk::telemetry;

use super::hint::hint;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CliError {
    /// The settings are refused.
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    /// Invalid usage that clap cannot detect.
    #[error("{0}")]
    Usage(String),
    /// The usage is valid, and running the command failed.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

impl CliError {
    /// A failure while running.
    pub(crate) fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }

    /// Prints the error with its causes to stderr, and gives the exit code: 1 for a failure while
    /// running, 2 for bad usage or settings (which is also how the parser exits).
    pub(crate) fn report(&self) -> ExitCode {
        let causes: Vec<_> = telemetry::causes(self).map(ToString::to_string).collect();
        let hint = match self {
            Self::Failed(error) => hint(error.as_ref()),
            _ => None,
        };
        telemetry::print_failure(&self.to_string(), &causes, hint);
        match self {
            Self::Settings(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}
