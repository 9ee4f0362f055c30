//! Errors of the server that keeps a shared log.

use std::{io, time::Duration};

use thiserror::Error;

/// A command has no result, or the server cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RedisError {
    /// There is no connection: the command was not sent.
    #[error("the server cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The connection broke after the command was sent, or the answer did not come in time: whether
    /// the command was performed is unknown.
    #[error("the connection to the server broke")]
    Broken(#[source] io::Error),
    /// The server refused the command, and has not performed it.
    #[error("the server answered {0:?}")]
    Refused(String),
    /// The server has no memory left.
    #[error("the server's memory is full")]
    Full,
    /// The answer does not fit the command.
    #[error("cannot parse the server's answer: {0}")]
    Unexpected(&'static str),
    /// An entry of a later version of the hub.
    #[error("event {seq} was written by a later version of the hub (format {format})")]
    NewerFormat {
        /// Its number.
        seq: u64,
        /// Its format.
        format: u8,
    },
    /// An entry of a development version before 0.1.0, which did not name the entry before it.
    #[error(
        "event {seq} was written by a version before 0.1.0, whose log cannot be continued: its entries do not name \
         the one before them; remove the keys of the namespace, or set another backend.namespace"
    )]
    EarlierFormat {
        /// Its number.
        seq: u64,
    },
    /// Something in the stream that no hub has written.
    #[error("entry {0} of the stream was not written by a hub")]
    Foreign(String),
    /// A setting of the server that would lose events without a sign.
    #[error("{0}")]
    Unsuitable(String),
}

impl RedisError {
    /// Whether a later attempt fails, too, unless an operator changes the server or the settings.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NewerFormat { .. }
            | Self::EarlierFormat { .. }
            | Self::Foreign(_)
            | Self::Unsuitable(_) => true,
            Self::Refused(answer) => {
                ["NOAUTH", "WRONGPASS", "NOPERM", "ERR unknown command", "ERR DB index"]
                    .iter()
                    .any(|word| answer.starts_with(word))
            }
            _ => false,
        }
    }

    /// Whether the server's user may not run the command, or one that the script calls.
    pub fn is_forbidden(&self) -> bool {
        let Self::Refused(answer) = self else { return false };
        ["NOPERM", "ERR The user executing the script"].iter().any(|word| answer.starts_with(word))
    }

    /// Whether this hub cannot read an entry of the log, and so can show none after it.
    pub fn ends_following(&self) -> bool {
        matches!(self, Self::NewerFormat { .. } | Self::EarlierFormat { .. } | Self::Foreign(_))
    }

    /// Whether the outcome of the command is unknown. Redis does not roll back a script that fails
    /// half way.
    pub fn leaves_outcome_open(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Unexpected(_) => true,
            Self::Refused(answer) => !NOT_BEGUN.iter().any(|word| answer.starts_with(word)),
            _ => false,
        }
    }

    /// An error of a server's answer.
    pub(super) fn answered(text: &str) -> Self {
        if text.starts_with("OOM ") {
            return Self::Full;
        }
        // A server may repeat parts of a command, which may hold events.
        let text = text.split(", with args").next().unwrap_or_default();
        Self::Refused(text.chars().filter(|c| !c.is_control()).take(ANSWER_CHARS_MAX).collect())
    }

    /// An error of the answer to AUTH: keeps the error code alone (and `unknown command`), so that
    /// no password is logged.
    pub(super) fn without_arguments(self) -> Self {
        match self {
            Self::Refused(answer) if answer.starts_with("ERR unknown command") => {
                Self::Refused("ERR unknown command AUTH".to_owned())
            }
            Self::Refused(answer) => {
                let word = answer.split(' ').next().unwrap_or_default();
                Self::Refused(format!("{word}, to AUTH"))
            }
            error => error,
        }
    }

    /// No answer came within a time.
    pub(crate) fn timed_out(after: Duration) -> Self {
        let text = format!("no answer within {} ms", after.as_millis());
        Self::Broken(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

/// Errors before a script has begun to write.
const NOT_BEGUN: [&str; 14] = [
    "NOSCRIPT",
    "READONLY",
    "LOADING",
    "BUSY",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOAUTH",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "CROSSSLOT",
    "ERR unknown command",
];
/// Characters that are kept of an error of the server: `MOVED` names a host of up to 253.
const ANSWER_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_within_a_script_leaves_open_what_it_has_written() {
        for (answer, is_open) in [
            ("NOSCRIPT No matching script. Please use EVAL.", false),
            ("READONLY You can't write against a read only replica.", false),
            ("MISCONF Redis is configured to save RDB snapshots", false),
            ("ERR The user executing the script can't run this command or subcommand", true),
            ("NOPERM User a has no permissions to run the 'xtrim' command script: 1f", true),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", true),
        ] {
            assert_eq!(RedisError::answered(answer).leaves_outcome_open(), is_open, "{answer}");
        }
        assert!(!RedisError::Full.leaves_outcome_open());
    }

    #[test]
    fn no_error_repeats_a_password() {
        for answer in [
            "ERR unknown command 'AUTH', with args beginning with: 'hunter2' ",
            "ERR invalid password hunter2",
            "WRONGPASS hunter2",
        ] {
            let error = RedisError::answered(answer).without_arguments();
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        }
        let unknown =
            RedisError::answered("ERR unknown command 'AUTH', with args beginning with: 'x'");
        assert!(unknown.without_arguments().is_permanent());
        let wrong = RedisError::answered("WRONGPASS invalid username-password pair");
        assert!(wrong.without_arguments().is_permanent());
    }
}
