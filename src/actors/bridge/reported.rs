//! What a hub has reported of its subscribers, and what has changed since.

use crate::{
    model::{ChannelName, ChannelPattern},
    redis::SubscriberCount,
};

/// The report of a hub, as the server has it.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// The number of parts that the server has accepted; with 0 it has no report.
    pub(super) parts: u64,
    /// In the order of their names.
    channels: Vec<(ChannelName, SubscriberCount)>,
    patterns: Option<Patterns>,
}

/// In their order; none if there are too many to be reported.
pub(super) type Patterns = Option<Vec<(ChannelPattern, SubscriberCount)>>;

/// What is to be reported next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// A channel that has no subscribers any more has a count of zero.
    pub(super) channels: Vec<(ChannelName, SubscriberCount)>,
    pub(super) are_patterns_new: bool,
}

impl Reported {
    /// What differs from the counts that hold now. Channels are in the order of their names.
    pub(super) fn changes(
        &self,
        channels: &[(ChannelName, SubscriberCount)],
        patterns: &Patterns,
    ) -> Changes {
        let mut changed = Vec::new();
        let mut before = self.channels.iter().peekable();
        for (name, count) in channels {
            while let Some((gone, _)) = before.next_if(|(other, _)| other < name) {
                changed.push((gone.clone(), SubscriberCount::default()));
            }
            let known = before.next_if(|(other, _)| other == name);
            if known.is_none_or(|(_, known)| known != count) {
                changed.push((name.clone(), *count));
            }
        }
        changed.extend(before.map(|(gone, _)| (gone.clone(), SubscriberCount::default())));
        Changes { channels: changed, are_patterns_new: self.patterns.as_ref() != Some(patterns) }
    }

    /// The server has these counts now.
    pub(super) fn set(
        &mut self,
        channels: Vec<(ChannelName, SubscriberCount)>,
        patterns: Patterns,
    ) {
        (self.channels, self.patterns) = (channels, Some(patterns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(counts: &[(&str, u32)]) -> Vec<(ChannelName, SubscriberCount)> {
        let name = |name| ChannelName::parse(name).expect("a name");
        let count = |streams| SubscriberCount { streams, pollers: 0 };
        counts.iter().map(|(channel, streams)| (name(channel), count(*streams))).collect()
    }

    #[test]
    fn what_has_changed_is_reported_and_no_more() {
        let mut reported = Reported::default();
        let first = channels(&[("b", 1), ("c", 2), ("e", 1)]);
        let patterns = Some(Vec::new());
        let changes = reported.changes(&first, &patterns);
        assert_eq!(changes, Changes { channels: first.clone(), are_patterns_new: true });
        reported.set(first.clone(), patterns.clone());
        let changes = reported.changes(&first, &patterns);
        assert_eq!(changes, Changes { channels: Vec::new(), are_patterns_new: false });
        let next = channels(&[("a", 1), ("c", 3), ("d", 1), ("e", 1)]);
        let changes = reported.changes(&next, &None);
        let expected = channels(&[("a", 1), ("b", 0), ("c", 3), ("d", 1)]);
        assert_eq!(changes, Changes { channels: expected, are_patterns_new: true });
        reported.set(next, None);
        let changes = reported.changes(&[], &None);
        let expected = channels(&[("a", 0), ("c", 0), ("d", 0), ("e", 0)]);
        assert_eq!(changes, Changes { channels: expected, are_patterns_new: false });
    }
}
