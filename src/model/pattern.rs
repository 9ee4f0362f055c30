//! What a subscription names: channels, or patterns over their segments.

use std::{fmt, sync::Arc};

use smallvec::SmallVec;
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

    /// Whether `name` is one of the channels it stands for. What comes before the first `**` and
    /// after the last is compared once; only what is between is looked for, so the time is that of
    /// its segments times the name's ([`searched_segments`](Self::searched_segments)).
    pub fn matches(&self, name: &ChannelName) -> bool {
        let (mut pattern, mut name) = (self.0.split('/'), name.as_str().split('/'));
        let fits = |wanted: &str, segment: Option<&str>| {
            segment.is_some_and(|segment| wanted == "*" || wanted == segment)
        };
        loop {
            match pattern.next() {
                None => return name.next().is_none(),
                Some("**") => break,
                Some(wanted) if fits(wanted, name.next()) => {}
                Some(_) => return false,
            }
        }
        loop {
            match pattern.next_back() {
                None => return true,
                Some("**") => return is_among(pattern, name),
                Some(wanted) if fits(wanted, name.next_back()) => {}
                Some(_) => return false,
            }
        }
    }

    /// How many segments are between its first and its last `**`, others of these not counted.
    pub fn searched_segments(&self) -> usize {
        let mut parts = self.segments().skip_while(|segment| *segment != "**").skip(1);
        let (mut searched, mut since) = (0, 0);
        for segment in &mut parts {
            match segment {
                "**" => searched += std::mem::take(&mut since),
                _ => since += 1,
            }
        }
        searched
    }
}

/// Whether what is between two `**` has its place in what a name has there. Each part between
/// wildcards takes the first place where it fits; to take a later one is never better.
fn is_among<'a>(
    pattern: impl Iterator<Item = &'a str>,
    name: impl Iterator<Item = &'a str>,
) -> bool {
    let pattern: SmallVec<[&str; 16]> = pattern.collect();
    let name: SmallVec<[&str; 16]> = name.collect();
    // The part under way: where it begins, in the pattern and in the name.
    let (mut part, mut from) = (0, 0);
    let (mut p, mut n) = (0, 0);
    while let Some(&wanted) = pattern.get(p) {
        if wanted == "**" {
            (part, from) = (p + 1, n);
            p += 1;
            continue;
        }
        let Some(&segment) = name.get(n) else { return false };
        if wanted == "*" || wanted == segment {
            (p, n) = (p + 1, n + 1);
        } else {
            from += 1;
            (p, n) = (part, from);
        }
    }
    true
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
        assert!(matches("a/**/**/b", "a/b") && !matches("a/**/**/b", "a"));
        assert!(matches("**/a/b/**/**", "a/a/b") && !matches("**/a/b/**/a", "a/b"));
    }

    #[test]
    fn only_what_is_between_two_double_stars_is_searched() {
        for (pattern, segments) in
            [("a/*", 0), ("a/**/b/c", 0), ("**/**", 0), ("a/**/b/*/**/c", 2), ("**/a/**/b/**", 2)]
        {
            let pattern = ChannelPattern::parse(pattern).expect("a pattern");
            assert_eq!(pattern.searched_segments(), segments, "{pattern}");
        }
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
                prop_oneof![Just("a"), Just("b"), Just("*"), Just("**")], 1..9),
            name in proptest::collection::vec(prop_oneof![Just("a"), Just("b")], 1..9),
        ) {
            prop_assert_eq!(
                matches(&pattern.join("/"), &name.join("/")),
                naive(&pattern, &name)
            );
        }
    }
}
