//! Why settings are refused.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{Allowed, SetBy};

/// Everything that is wrong with the settings, one a line; never empty.
#[derive(Debug)]
pub struct SettingsErrors(Vec<SettingsError>);

impl SettingsErrors {
    /// An error with all of `errors`, if there are any.
    pub(super) fn none_or(errors: Vec<SettingsError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// The errors, in the order of the layers.
    pub fn iter(&self) -> impl Iterator<Item = &SettingsError> {
        self.0.iter()
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0[..] {
            [only] => only.source(),
            _ => None,
        }
    }
}

impl From<SettingsError> for SettingsErrors {
    fn from(error: SettingsError) -> Self {
        Self(vec![error])
    }
}

/// One thing that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A requested file does not exist.
    #[error("{wanted_by} asks for {}, which does not exist", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
        /// What asks for it: a flag, or the running hub.
        wanted_by: &'static str,
    },
    /// A file exists but cannot be read.
    #[error("{} cannot be read", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is longer than any settings file.
    #[error("{} is longer than {bytes_max} bytes, which no settings file needs", path.display())]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
    /// A file is not TOML.
    #[error("{}:{line}:{column} is not TOML: {reason}", path.display())]
    FileMalformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
        /// The parser's error.
        reason: String,
    },
    /// The profile could not be part of a file name.
    #[error("profile {profile:?} is refused: allowed are 1 to 64 letters, digits, - and _")]
    ProfileName {
        /// The profile.
        profile: String,
    },
    /// There is no such setting.
    #[error("unknown setting {key} = {value} ({set_by}): {hint}")]
    UnknownKey {
        /// The name.
        key: String,
        /// The value, unless the name sounds like a secret.
        value: String,
        /// Its origin.
        set_by: SetBy,
        /// The nearest key, or the keys of the section.
        hint: String,
    },
    /// The name is reserved for a later version.
    #[error("{key} ({set_by}) is not available in this version: {lacks}; remove it")]
    NotAvailable {
        /// The name. Its value is not shown, since it may be a secret.
        key: String,
        /// Its origin.
        set_by: SetBy,
        /// What this version lacks.
        lacks: &'static str,
    },
    /// The value is of the wrong type or out of range.
    #[error("{key} = {value} ({set_by}) is refused: allowed is {allowed}")]
    BadValue {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// Its origin.
        set_by: SetBy,
        /// The values that are allowed.
        allowed: Allowed,
    },
    /// A rule for channels has an unknown key or a bad value.
    #[error("rule {number} of channels.rules ({set_by}) is refused: {reason}")]
    BadRule {
        /// The number of the rule, from 1.
        number: usize,
        /// Its origin.
        set_by: SetBy,
        /// The key and its value, and what is allowed.
        reason: String,
    },
    /// A variable is not UTF-8.
    #[error("environment {name} is refused: its value is not UTF-8")]
    NotText {
        /// The variable.
        name: String,
    },
    /// Values that are allowed by themselves do not go together.
    #[error("{subject} {reason}; {remedy}")]
    Contradiction {
        /// The settings with their values and origins.
        subject: String,
        /// Why they contradict each other.
        reason: String,
        /// What to change.
        remedy: String,
    },
    /// The merged values cannot be read as settings, though each was allowed by itself.
    #[error("the settings do not fit together: {reason}")]
    Merge {
        /// The deserializer's error.
        reason: String,
    },
}
