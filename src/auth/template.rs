//! Patterns with a variable for the subject: `users/{sub}/**`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{ChannelName, ChannelPattern, SelectorError};

/// A channel pattern in which whole segments may be `{sub}`, which stands for the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatternTemplate(String);

/// Why a text is not a template, or why a subject cannot be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The text is not a pattern.
    #[error(transparent)]
    Pattern(#[from] SelectorError),
    /// `{sub}` is only a part of a segment.
    #[error("`{{sub}}` stands for a whole segment")]
    PartialSegment,
    /// The token has no subject.
    #[error("a pattern with `{{sub}}` needs a token with `sub`")]
    NoSubject,
    /// The subject is not exactly one literal segment.
    #[error(
        "`sub` cannot stand in a channel name: it must not be empty, `.` or `..`, or have `/`, \
         `*`, or control characters"
    )]
    BadSubject,
}

impl PatternTemplate {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.split('/').any(|segment| segment != VARIABLE && segment.contains(VARIABLE)) {
            return Err(TemplateError::PartialSegment);
        }
        ChannelPattern::parse(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The text of the template.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pattern with the subject inserted.
    pub fn fill(&self, subject: Option<&str>) -> Result<ChannelPattern, TemplateError> {
        if !self.has_variable() {
            return Ok(ChannelPattern::parse(&self.0)?);
        }
        let subject = subject.ok_or(TemplateError::NoSubject)?;
        if subject.contains('/') || ChannelName::parse(subject).is_err() {
            return Err(TemplateError::BadSubject);
        }
        let filled =
            self.0.split('/').map(|segment| if segment == VARIABLE { subject } else { segment });
        Ok(ChannelPattern::parse(&filled.collect::<Vec<_>>().join("/"))?)
    }

    /// Whether the template has `{sub}`, so that the pattern depends on the subject.
    pub fn has_variable(&self) -> bool {
        self.0.split('/').any(|segment| segment == VARIABLE)
    }
}

impl TryFrom<String> for PatternTemplate {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        Self::parse(&text)
    }
}

impl From<PatternTemplate> for String {
    fn from(template: PatternTemplate) -> Self {
        template.0
    }
}

impl fmt::Display for PatternTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The variable for the subject.
const VARIABLE: &str = "{sub}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_one_literal_segment() {
        let template = PatternTemplate::parse("users/{sub}/**").expect("a template");
        let filled = |subject: &str| template.fill(Some(subject)).map(|p| p.as_str().to_owned());
        assert_eq!(filled("ann"), Ok("users/ann/**".into()));
        assert_eq!(filled("auth0|5f"), Ok("users/auth0|5f/**".into()));
        assert_eq!(filled("{sub}"), Ok("users/{sub}/**".into()));
        for bad in ["", ".", "..", "*", "**", "a*", "a/b", "/", "a\nb", "a\u{0}", "a\u{85}"] {
            assert_eq!(filled(bad), Err(TemplateError::BadSubject), "{bad:?}");
        }
        assert_eq!(filled(&"x".repeat(256)), Err(TemplateError::BadSubject));
        // Each fits by itself, and together they do not.
        assert!(filled(&"x".repeat(255)).is_err());
        assert_eq!(template.fill(None), Err(TemplateError::NoSubject));
    }

    #[test]
    fn a_place_is_a_whole_segment() {
        for bad in ["user-{sub}", "a/{sub}b", "{sub}{sub}"] {
            assert_eq!(PatternTemplate::parse(bad), Err(TemplateError::PartialSegment), "{bad}");
        }
        assert!(PatternTemplate::parse("{sub}").is_ok());
        assert!(matches!(PatternTemplate::parse("a//b"), Err(TemplateError::Pattern(_))));
    }
}
