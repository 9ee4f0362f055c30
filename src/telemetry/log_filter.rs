//! What is logged, as it is written in settings.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// What is logged: a level (`info`), levels by module (`visnyk::http=debug`), or several of these,
/// separated by commas. It is stricter than the subscriber's parser, which takes a misspelt level
/// for the name of a module, and then logs nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

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
        // The subscriber's parser accepts no blanks.
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
