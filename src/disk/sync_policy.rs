//! When written events are made durable.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// When an fsync is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SyncPolicy {
    /// Before events are acknowledged or shown.
    #[default]
    Always,
    /// At this interval. A power cut loses events that were acknowledged since the last fsync; the
    /// end of the process alone loses nothing.
    Every(Duration),
}

/// A text that is not a [`SyncPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("neither `always` nor an interval from 1ms to 60000ms")]
pub struct SyncPolicyError;

impl FromStr for SyncPolicy {
    type Err = SyncPolicyError;

    fn from_str(text: &str) -> Result<Self, SyncPolicyError> {
        if text == "always" {
            return Ok(Self::Always);
        }
        let ms = text.strip_suffix("ms").and_then(|ms| ms.parse().ok()).ok_or(SyncPolicyError)?;
        match ms {
            1..=INTERVAL_MAX_MS => Ok(Self::Every(Duration::from_millis(ms))),
            _ => Err(SyncPolicyError),
        }
    }
}

impl TryFrom<String> for SyncPolicy {
    type Error = SyncPolicyError;

    fn try_from(text: String) -> Result<Self, SyncPolicyError> {
        text.parse()
    }
}

impl From<SyncPolicy> for String {
    fn from(policy: SyncPolicy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Every(interval) => write!(f, "{}ms", interval.as_millis()),
        }
    }
}

const INTERVAL_MAX_MS: u64 = 60_000;
