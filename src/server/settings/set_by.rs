//! Where the value of a setting came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from. `Display` writes it into messages and the output of `visnyk config`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetBy {
    /// The built-in default.
    Default,
    /// A settings file.
    File {
        /// The file, as it was named or found.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A command-line flag, by name.
    Flag(String),
}

impl SetBy {
    /// The same at another line of a file.
    pub(super) fn at(&self, line: Option<usize>) -> Self {
        match (self, line) {
            (Self::File { path, .. }, Some(line)) => Self::File { path: path.clone(), line },
            _ => self.clone(),
        }
    }
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}
