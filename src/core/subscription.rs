//! What a client asks to receive: channels, patterns, and types.

use thiserror::Error;

use crate::model::{ChannelName, ChannelPattern, ChannelSelector, Event, EventKind, EventType};

/// The channels and patterns of one connection, without duplicates, and its type filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    names: Vec<ChannelName>,
    patterns: Vec<ChannelPattern>,
    types: Box<[EventType]>,
}

impl Subscription {
    /// At least one selector and at most `selectors_max`; repeated ones count once. No `types`
    /// means all.
    pub fn new(
        selectors: impl IntoIterator<Item = ChannelSelector>,
        types: impl IntoIterator<Item = EventType>,
        selectors_max: usize,
    ) -> Result<Self, SubscriptionError> {
        let (mut names, mut patterns) = (Vec::new(), Vec::new());
        for selector in selectors {
            match selector {
                ChannelSelector::Name(name) if !names.contains(&name) => names.push(name),
                ChannelSelector::Pattern(pattern) if !patterns.contains(&pattern) => {
                    patterns.push(pattern);
                }
                _ => {}
            }
            if names.len() + patterns.len() > selectors_max {
                return Err(SubscriptionError::TooMany { selectors_max });
            }
        }
        let searched = patterns.iter().map(ChannelPattern::searched_segments).sum::<usize>();
        if searched > SEARCHED_SEGMENTS_MAX {
            return Err(SubscriptionError::TooIntricate);
        }
        if names.is_empty() && patterns.is_empty() {
            return Err(SubscriptionError::Empty);
        }
        let mut types: Vec<EventType> = types.into_iter().collect();
        types.sort_unstable();
        types.dedup();
        if types.len() > selectors_max {
            return Err(SubscriptionError::TooManyTypes { types_max: selectors_max });
        }
        Ok(Self { names, patterns, types: types.into() })
    }

    /// The channels named one by one.
    pub fn names(&self) -> &[ChannelName] {
        &self.names
    }

    /// The patterns.
    pub fn patterns(&self) -> &[ChannelPattern] {
        &self.patterns
    }

    /// The patterns alone.
    pub fn into_patterns(self) -> Box<[ChannelPattern]> {
        self.patterns.into()
    }

    /// The types to receive; empty means all.
    pub fn types(&self) -> &[EventType] {
        &self.types
    }

    /// Whether an event passes the type filter. Events of the hub itself always pass.
    pub fn wants(types: &[EventType], event: &Event) -> bool {
        types.is_empty()
            || event.kind == EventKind::Closed
            || types.iter().any(|wanted| wanted.as_str() == event.event_type())
    }
}

/// Why selectors are not a valid subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// No channel or pattern.
    #[error("name at least one channel")]
    Empty,
    /// More channels and patterns than a connection may have.
    #[error("one connection has at most {selectors_max} channels and patterns")]
    TooMany {
        /// The limit.
        selectors_max: usize,
    },
    /// The patterns together are too expensive to match.
    #[error(
        "between the first and the last `**` of their patterns a connection has at most \
         {SEARCHED_SEGMENTS_MAX} segments in all"
    )]
    TooIntricate,
    /// More types than a connection may filter by.
    #[error("one connection filters by at most {types_max} types")]
    TooManyTypes {
        /// The limit.
        types_max: usize,
    },
}

/// Most segments, in all patterns together, that may be compared at every offset of a name. With
/// names of 128 segments that is 16,384 comparisons for a channel.
const SEARCHED_SEGMENTS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(selectors: &[&str], max: usize) -> Result<Subscription, SubscriptionError> {
        let selectors: Vec<_> =
            selectors.iter().map(|s| ChannelSelector::parse(s).expect("a selector")).collect();
        Subscription::new(selectors, [], max)
    }

    #[test]
    fn the_number_is_checked_at_below_and_above_its_bound() {
        assert_eq!(parse(&[], 2), Err(SubscriptionError::Empty));
        assert!(parse(&["a"], 2).is_ok());
        assert!(parse(&["a", "b/*"], 2).is_ok());
        assert_eq!(
            parse(&["a", "b", "c/*"], 2),
            Err(SubscriptionError::TooMany { selectors_max: 2 })
        );
    }

    #[test]
    fn segments_that_are_searched_for_are_bounded_over_all_patterns() {
        let half = format!("**/{}**", "a/".repeat(64));
        let other = format!("**/{}**", "b/".repeat(64));
        assert!(parse(&[&half, &other, "**/x/y/z"], 3).is_ok());
        let above = parse(&[&half, &other, "**/a/**"], 3);
        assert_eq!(above, Err(SubscriptionError::TooIntricate));
    }

    #[test]
    fn repeated_selectors_count_once() {
        let subscription = parse(&["a", "a", "b/*", "b/*"], 2).expect("two");
        assert_eq!((subscription.names().len(), subscription.patterns().len()), (1, 1));
    }
}
