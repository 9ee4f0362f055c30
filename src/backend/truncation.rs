//! Finds out whether a channel that a subscription's patterns match has lost events before its
//! oldest.

use super::{directory::Directory, losses::KnownLosses, walk::Walk};
use crate::model::{ChannelPattern, Seq};

/// A walk over the channels of some patterns: first those in the directory, then the evicted ones,
/// so that a channel that is evicted during the walk is not missed.
#[derive(Debug)]
pub(super) enum TruncationWalk {
    Channels(Walk),
    Evicted(Walk),
}

impl TruncationWalk {
    pub(super) fn new(patterns: &[ChannelPattern]) -> Self {
        Self::Channels(Walk::new(patterns))
    }

    /// Looks at the next channels; `None` while there are more and none of them is truncated.
    pub(super) fn look(
        &mut self,
        directory: &Directory,
        patterns: &[ChannelPattern],
    ) -> Option<bool> {
        let names_max = Walk::names_per_look(patterns);
        match self {
            Self::Channels(walk) => {
                let entries = directory.next_names(walk, names_max);
                let matches = |name| patterns.iter().any(|pattern| pattern.matches(name));
                if entries
                    .iter()
                    .any(|entry| matches(entry.name()) && entry.events().is_truncated())
                {
                    return Some(true);
                }
                if walk.is_over() {
                    *self = Self::Evicted(Walk::new(patterns));
                }
                None
            }
            Self::Evicted(walk) => {
                let (after, known) = (Seq::ZERO, KnownLosses::default());
                let evicted = directory.evicted_channels();
                let lost = evicted.any_lost(walk, names_max, patterns, after, known);
                (lost || walk.is_over()).then_some(lost)
            }
        }
    }
}
