//! Losses of histories, and those that a reader knows of.

use crate::model::{ChannelName, Seq};

/// The losses of a history: the last seq that is lost, and the number of the latest eviction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) through: Seq,
    pub(super) eviction: u64,
}

impl Losses {
    /// Whether a reader that has everything up to `after` lacks some of the events, and does not
    /// know that they are lost.
    pub(super) fn are_unknown(self, after: Seq, known: KnownLosses) -> bool {
        self.through > after && !known.covers(self.through, self.eviction)
    }
}

/// Up to which seq the channels of a log may have lost events when it is loaded.
#[derive(Debug, Default)]
pub struct LostThrough {
    /// Channels, each once, in the order of these seqs.
    pub named: Vec<(ChannelName, Seq)>,
    /// Any other channel.
    pub others: Seq,
}

impl LostThrough {
    /// Any channel may have lost events up to `through`.
    pub fn any(through: Seq) -> Self {
        Self { others: through, ..Self::default() }
    }
}

/// The losses that a reader knows of, because it started at the oldest event or was sent a gap:
/// evictions with a number up to `evictions`, of events up to `through`. Any other loss needs a
/// gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct KnownLosses {
    pub(super) evictions: u64,
    pub(super) through: Seq,
}

impl KnownLosses {
    pub(super) const ALL: Self = Self { evictions: u64::MAX, through: Seq(u64::MAX) };

    /// Whether it knows that this eviction has removed events up to `through`.
    pub(super) fn covers(self, through: Seq, eviction: u64) -> bool {
        eviction <= self.evictions && through <= self.through
    }
}

/// An event of the subscription has been lost, and the reader does not know of it. Holds the
/// event's channel, if that is known.
#[derive(Debug)]
pub(super) struct Lost(pub(super) Option<ChannelName>);
