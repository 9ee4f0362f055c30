//! What a subscription names: channels, or patterns over their segments.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use thiserror::Error;

use super::channel::{ChannelName, ChannelNameError, check_length, check_segments};

/// A pattern over channel names: `*` stands for one segment, `**` for zero or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelPattern {
    text: Arc<str>,
    /// Where its first wildcard begins and its last ends, in bytes; there are at most 255.
    wild: (u8, u8),
    weight: u16,
}

impl ChannelPattern {
    /// Checks the segments; a `*` inside a longer segment is refused.
    pub fn parse(pattern: &str) -> Result<Self, SelectorError> {
        check_length(pattern)?;
        check_segments(pattern)?;
        if pattern.split('/').any(|s| s.contains('*') && s != "*" && s != "**") {
            return Err(SelectorError::PartialWildcard);
        }
        // One without a wildcard is all prefix.
        let first = pattern.find('*').unwrap_or(pattern.len());
        let end = pattern.rfind('*').map_or(0, |last| last + 1);
        let stars = pattern.bytes().filter(|byte| *byte == b'*').count();
        let weight = 1 + stars / 4 + 8 * searched_segments(pattern);
        Ok(Self { text: pattern.into(), wild: (first as u8, end as u8), weight: weight as u16 })
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parts between the slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/')
    }

    /// The segments before its first wildcard: every name that it stands for begins with them.
    pub fn literal_prefix(&self) -> &str {
        self.text[..usize::from(self.wild.0)].trim_end_matches('/')
    }

    /// The segments after its last wildcard: every name that it stands for ends with them.
    fn literal_suffix(&self) -> &str {
        self.text[usize::from(self.wild.1)..].trim_start_matches('/')
    }

    /// About how long it takes to compare with a name that all but fits, in units of a comparison
    /// that ends with the first letters.
    pub fn weight(&self) -> usize {
        self.weight.into()
    }

    /// Whether `name` is one of the channels it stands for. The segments before the first `**` and
    /// after the last are compared once; only those between are searched for, so the time is that
    /// of their number times the name's ([`searched_segments`](Self::searched_segments)).
    pub fn matches(&self, name: &ChannelName) -> bool {
        // Most channels differ in their first letters or their last, and no segment is looked at.
        if !name.as_str().starts_with(self.literal_prefix())
            || !name.as_str().ends_with(self.literal_suffix())
        {
            return false;
        }
        let (mut pattern, mut name) = (self.text.split('/'), name.as_str().split('/'));
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

    /// Whether there is a name that both stand for.
    pub fn intersects(&self, other: &Self) -> bool {
        let (ours, theirs): (Vec<&str>, Vec<&str>) =
            (self.segments().collect(), other.segments().collect());
        // Whether the rest of ours from one index on meets the rest of theirs, from the last on.
        let mut below = vec![false; theirs.len() + 1];
        for our in (0..=ours.len()).rev() {
            let mut row = vec![false; theirs.len() + 1];
            for their in (0..=theirs.len()).rev() {
                row[their] = match (ours.get(our), theirs.get(their)) {
                    (None, None) => true,
                    // It stands for no segment, or for one more.
                    (Some(&"**"), their_next) => {
                        below[their] || their_next.is_some() && row[their + 1]
                    }
                    (our_next, Some(&"**")) => row[their + 1] || our_next.is_some() && below[their],
                    (Some(a), Some(b)) => (a == b || *a == "*" || *b == "*") && below[their + 1],
                    _ => false,
                };
            }
            below = row;
        }
        below[0]
    }

    /// How many segments are between its first and its last `**`, others of these not counted.
    pub fn searched_segments(&self) -> usize {
        searched_segments(&self.text)
    }
}

impl TryFrom<String> for ChannelPattern {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        Self::parse(&text)
    }
}

impl From<ChannelPattern> for String {
    fn from(pattern: ChannelPattern) -> Self {
        pattern.text.to_string()
    }
}

fn searched_segments(pattern: &str) -> usize {
    let (mut searched, mut since) = (0, 0);
    for segment in pattern.split('/').skip_while(|segment| *segment != "**").skip(1) {
        match segment {
            "**" => searched += std::mem::take(&mut since),
            _ => since += 1,
        }
    }
    searched
}

/// Whether the segments between two `**` fit into a part of a name. Each run between wildcards
/// takes the first segments where it fits; a later fit is never better.
fn is_among<'a>(
    pattern: impl Iterator<Item = &'a str>,
    name: impl Iterator<Item = &'a str>,
) -> bool {
    let pattern: SmallVec<[&str; 16]> = pattern.collect();
    let name: SmallVec<[&str; 16]> = name.collect();
    // The current run: its start in the pattern and in the name.
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
        f.write_str(&self.text)
    }
}

/// One `channel=` of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChannelSelector {
    /// Exactly this channel.
    Name(ChannelName),
    /// Every channel that matches, those created later included.
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
        assert!(!matches("*/b", "c/ab") && !matches("**/b", "ab") && matches("**/b", "b"));
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

    #[test]
    fn patterns_intersect_if_a_name_fits_both() {
        let texts = [
            "a", "*", "**", "a/*", "*/b", "a/**", "**/b", "a/**/b", "*/*", "a/b/c", "b/**",
            "**/a/**",
        ];
        let names =
            ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/b/c", "a/a/b", "b/a/b", "a/c/c/b", "c/a/c"];
        for one in texts {
            for other in texts {
                let [x, y] =
                    [one, other].map(|text| ChannelPattern::parse(text).expect("a pattern"));
                let fits = |name: &&str| {
                    let name = ChannelName::parse(name).expect("a name");
                    x.matches(&name) && y.matches(&name)
                };
                assert_eq!(x.intersects(&y), names.iter().any(fits), "{one} {other}");
            }
        }
    }
}
