//! The log: tracing events as lines of text or JSON on stderr.
//!
//! The line that people and scripts wait for at the start (`listening on …`) is not part of the
//! log: the server prints it plainly, whatever is logged.
//!
//! Whatever the filter says, other crates are logged at `info` at most: below that they show what
//! clients sent. h2 logs a `:path` that it refuses as it came, and there may be a token in it.

use std::io::IsTerminal;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::util::TryInitError;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl LogFormat {
    /// The formats as they are written in settings.
    pub const WORDS: &[&str] = &["text", "json"];
}

/// What is logged: a level (`info`), levels by module (`visnyk::http=debug`), or several of these
/// with commas between them. Stricter than the parser behind it, which takes a misspelt level for
/// the name of a module and then logs nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let directives: Vec<&str> = text.split(',').map(str::trim).collect();
        for directive in &directives {
            let level = match directive.rsplit_once('=') {
                Some(("", _)) => return Err(LogFilterError),
                Some((_, level)) => level,
                None => directive,
            };
            if !LEVELS.contains(&level) {
                return Err(LogFilterError);
            }
        }
        // The parser behind takes no blanks.
        let text = directives.join(",");
        match EnvFilter::builder().parse(&text) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(LogFilterError),
        }
    }
}

/// The text is not a level, or not levels by module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log level, nor levels by module")]
pub struct LogFilterError;

/// Sends the process's tracing events to stderr. Once per process.
///
/// # Errors
/// If `level` is not a [`LogFilter`], or the process logs already.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogsError> {
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::prelude::*;

    let LogFilter(level) = level.parse()?;
    let filter = EnvFilter::builder().parse(level).map_err(LogsError::Parse)?;
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(is_harmless));
    match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = layer().with_writer(std::io::stderr).with_ansi(ansi);
            registry.with(lines).try_init()?;
        }
        LogFormat::Json => {
            let lines = layer().with_writer(std::io::stderr).json().flatten_event(true);
            registry.with(lines).try_init()?;
        }
    }
    Ok(())
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// The filter is refused.
    #[error("the log level is refused")]
    Filter(#[from] LogFilterError),
    /// The parser behind refuses a filter that ours took.
    #[error("the log level is refused")]
    Parse(#[source] ParseError),
    /// Something else receives the process's tracing events.
    #[error("the process logs already")]
    Taken(#[from] TryInitError),
}

/// Whether log lines of that target and level are known to hold nothing that a client sent in
/// confidence. Lines of the hub's own code are; a crate that is not named here may log anything.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next();
    crate_name == Some(OWN) || *metadata.level() <= Level::INFO
}

/// The crate whose code takes care of what it logs.
const OWN: &str = env!("CARGO_CRATE_NAME");

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_alone_and_by_module_are_filters() {
        for text in ["info", "off", "warn,visnyk::http=debug", "visnyk=trace, hyper=error"] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn misspelt_levels_and_modules_without_level_are_not() {
        for text in ["", "inof", "INFO!", "visnyk", "=info", "visnyk=", "visnyk=loud", "info,,warn"]
        {
            assert_eq!(text.parse::<LogFilter>(), Err(LogFilterError), "{text:?}");
        }
    }
}
