//! The part of a hub among those that share a log.

use serde::{Deserialize, Serialize};

/// The part of a hub among those that share a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It accepts publishes and serves subscribers.
    #[default]
    All,
    /// It serves streams, polls and the console, but accepts no publishes.
    Edge,
    /// It accepts publishes, but serves no subscribers.
    Ingest,
}

impl Role {
    /// All roles, as settings name them.
    pub const WORDS: &'static [&'static str] = &["all", "edge", "ingest"];

    /// The word in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Edge => "edge",
            Self::Ingest => "ingest",
        }
    }
}
