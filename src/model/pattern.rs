//! What a subscription names: channels, or patterns over their segments.

use std::{fmt, sync::Arc};

use thiserror::Error;

use super::channel::{ChannelName, ChannelNameError, check_length, check_segments};

/// A pattern over channel names: `*` stands for one segment, `**` for zero or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChannelPattern(Arc<str>);

impl ChannelPattern {
    /// Checks the segments; a `*` inside a longer segment is refused.
    pub fn parse(pattern: &str) -> Result<Self, SelectorError> {
        check_length(pattern)?;
        check_segments(pattern)?;
        if pattern.split('/').any(|s| s.contains('*') && s != "*" && s != "**") {
            return Err(SelectorError::PartialWildcard);
        }
        Ok(Self(pattern.into()))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The segments before its first wildcard: every name that it stands for begins with them.
    pub fn literal_prefix(&self) -> &str {
        // A pattern has a wildcard, and in it a `*` is a whole segment or half of one.
        let wildcard = self.0.find('*').unwrap_or(self.0.len());
        self.0[..wildcard].trim_end_matches('/')
    }

    /// Whether `name` is one of the channels it stands for. The time is at most the product of
    /// the two segment counts; both are bounded by 255 bytes.
    pub fn matches(&self, name: &ChannelName) -> bool {
        if !name.as_str().starts_with(self.literal_prefix()) {
            return false;
        }
        // The classic glob walk: on a mismatch, go back to the last `**` and let it take one
        // segment more.
        let pattern: smallvec::SmallVec<[&str; 16]> = self.segments().collect();
        let name: smallvec::SmallVec<[&str; 16]> = name.segments().collect();
        let (mut p, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(&"**") => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(&segment) if segment == "*" || segment == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((after, taken)) => {
                        retry = Some((after, taken + 1));
                        p = after;
                        n = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&segment| segment == "**")
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One `channel=` of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChannelSelector {
    /// Exactly this channel.
    Name(ChannelName),
    /// Every channel that matches, those born later included.
    Pattern(ChannelPattern),
}

impl ChannelSelector {
    /// A text with a `*` is a pattern, any other a name.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.contains('*') {
            ChannelPattern::parse(text).map(Self::Pattern)
        } else {
            Ok(Self::Name(ChannelName::parse(text)?))
        }
    }

    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name.as_str(),
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }
}

/// Why a text is neither a channel name nor a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// It breaks a rule that names have too.
    #[error(transparent)]
    Name(#[from] ChannelNameError),
    /// A `*` with other characters in its segment.
    #[error("in a pattern, `*` and `**` stand for whole segments")]
    PartialWildcard,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let pattern = ChannelPattern::parse(pattern).expect("a pattern");
        pattern.matches(&ChannelName::parse(name).expect("a name"))
    }

    #[test]
    fn one_star_is_one_segment() {
        assert!(matches("a/*", "a/b"));
        assert!(!matches("a/*", "a"));
        assert!(!matches("a/*", "a/b/c"));
        assert!(matches("*/b", "a/b"));
    }

    #[test]
    fn two_stars_are_any_number_of_segments() {
        for name in ["a", "a/b", "a/b/c"] {
            assert!(matches("**", name));
            assert!(matches("a/**", name), "{name}");
        }
        assert!(!matches("a/**", "b"));
        assert!(matches("**/c", "a/b/c"));
        assert!(matches("**/b/**/d", "a/b/c/b/d"));
        assert!(!matches("**/b/**/d", "a/b/c"));
    }

    #[test]
    fn a_star_inside_a_segment_is_refused() {
        assert_eq!(ChannelPattern::parse("a*"), Err(SelectorError::PartialWildcard));
        assert_eq!(ChannelPattern::parse("a/***"), Err(SelectorError::PartialWildcard));
    }

    #[test]
    fn the_literal_prefix_ends_before_the_first_wildcard() {
        for (text, prefix) in
            [("**", ""), ("*/a", ""), ("a/**", "a"), ("a/b/*/c", "a/b"), ("новини/*", "новини")]
        {
            assert_eq!(ChannelPattern::parse(text).expect("a pattern").literal_prefix(), prefix);
        }
        assert!(!matches("a/*", "ab/c"), "a prefix of segments, not of letters");
    }

    fn naive(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => {
                naive(rest, name) || (!name.is_empty() && naive(pattern, &name[1..]))
            }
            (Some((&p, rest)), Some((&n, tail))) => (p == "*" || p == n) && naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_walk_agrees_with_the_definition(
            pattern in proptest::collection::vec(
                prop_oneof![Just("a"), Just("b"), Just("*"), Just("**")], 1..6),
            name in proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 1..7),
        ) {
            prop_assert_eq!(
                matches(&pattern.join("/"), &name.join("/")),
                naive(&pattern, &name)
            );
        }
    }
}
