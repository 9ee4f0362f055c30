//! Channel names: the only way in is [`ChannelName::parse`].

use std::{borrow::Borrow, fmt, sync::Arc};

use thiserror::Error;

/// The name of a channel: 1 to 255 bytes of UTF-8 without control characters, in segments split
/// by `/`, none of them empty, `.`, `..`, or containing `*`. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Checks `name` against the rules above.
    pub fn parse(name: &str) -> Result<Self, ChannelNameError> {
        check_length(name)?;
        if name.split('/').any(|segment| segment.contains('*')) {
            return Err(ChannelNameError::Wildcard);
        }
        check_segments(name)?;
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ChannelName {
    type Err = ChannelNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

/// Why a text is not a channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChannelNameError {
    /// No text at all.
    #[error("a channel name must not be empty")]
    Empty,
    /// More than 255 bytes.
    #[error("a channel name has at most 255 bytes")]
    TooLong,
    /// A control character.
    #[error("a channel name must not contain control characters")]
    Control,
    /// Two slashes in a row, or one at either end.
    #[error("a channel name must not have an empty segment (`//`, or `/` at an end)")]
    EmptySegment,
    /// A segment `.` or `..`, which proxies and clients would rewrite.
    #[error("a channel name must not have a segment `.` or `..`")]
    DotSegment,
    /// A `*`, which only patterns may hold.
    #[error("a channel name must not contain `*`; patterns are for subscriptions only")]
    Wildcard,
}

/// The length and characters that names and patterns have in common.
pub(super) fn check_length(text: &str) -> Result<(), ChannelNameError> {
    if text.is_empty() {
        return Err(ChannelNameError::Empty);
    }
    if text.len() > ChannelName::BYTES_MAX {
        return Err(ChannelNameError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(ChannelNameError::Control);
    }
    Ok(())
}

/// The segments that names and patterns have in common.
pub(super) fn check_segments(text: &str) -> Result<(), ChannelNameError> {
    for segment in text.split('/') {
        match segment {
            "" => return Err(ChannelNameError::EmptySegment),
            "." | ".." => return Err(ChannelNameError::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        for name in ["a", "orders/42", "users/ann@example.com", "вісник/новини", "a b"]
        {
            assert_eq!(ChannelName::parse(name).map(|n| n.to_string()).as_deref(), Ok(name));
        }
    }

    #[test]
    fn the_length_is_bounded_in_bytes() {
        assert!(ChannelName::parse(&"x".repeat(255)).is_ok());
        assert_eq!(ChannelName::parse(&"x".repeat(256)), Err(ChannelNameError::TooLong));
        assert_eq!(ChannelName::parse(&"é".repeat(128)), Err(ChannelNameError::TooLong));
    }

    #[test]
    fn each_rule_has_its_own_refusal() {
        for (name, error) in [
            ("", ChannelNameError::Empty),
            ("a\nb", ChannelNameError::Control),
            ("a\u{85}b", ChannelNameError::Control),
            ("/a", ChannelNameError::EmptySegment),
            ("a/", ChannelNameError::EmptySegment),
            ("a//b", ChannelNameError::EmptySegment),
            ("a/../b", ChannelNameError::DotSegment),
            (".", ChannelNameError::DotSegment),
            ("a/*", ChannelNameError::Wildcard),
            ("a*b", ChannelNameError::Wildcard),
        ] {
            assert_eq!(ChannelName::parse(name), Err(error), "{name:?}");
        }
    }
}
