//! How far the search for the start of a subscription has come.

use super::{
    found::FoundEvents, last_search::LastSearch, losses::KnownLosses, replay::Replay,
    replay_heap::ReplayHeap, truncation::TruncationWalk,
};
use crate::model::{ChannelName, GapReason, LastEvents, Position, Seq};

/// A search for the start, under way.
#[derive(Debug)]
pub(super) struct StartSearch {
    pub(super) target: Target,
    /// Whether to check if a channel has lost events before its oldest.
    pub(super) asks_truncated: bool,
    /// The head of the log when it began; later events do not matter here.
    pub(super) head: Seq,
    pub(super) search: Search,
}

/// What the search looks for.
#[derive(Debug)]
pub(super) enum Target {
    /// Whether nothing has been lost after this position.
    Continue(Position),
    /// The oldest event after `after` that is still there.
    Oldest { after: Seq, missed: Option<Missed> },
}

/// Where the search looks.
#[derive(Debug)]
pub(super) enum Search {
    /// In the journal, after this seq: up to it, the journal has nothing for the subscription.
    Journal(Seq),
    /// In the channels, since the journal does not reach back so far.
    Channels(ReplayHeap),
    /// Back from the head, channel by channel.
    Last(LastSearch),
    /// It was [taken out](super::reader::HistoryReader::take_search): it waits for memory or
    /// continues in the log on disk.
    Taken,
    /// The search is over; these events were found.
    Found(FoundEvents),
    /// It knows where to start, and looks for channels that are truncated. This is the last step:
    /// events evicted since `known` was noted are reported to the reader as a loss, so the walk may
    /// miss them. If the walk came first, `known` would hide an eviction between the two, which the
    /// walk has not seen.
    Truncated { cursor: Seq, known: KnownLosses, reads: FirstReads, walk: TruncationWalk },
}

/// What a reader reads first.
#[derive(Debug)]
pub(super) enum FirstReads {
    /// All events after its cursor.
    Direct,
    /// The channels of a merge.
    Merge(Box<Replay>),
    /// The events that a search has found.
    Found(FoundEvents),
}

/// Why the client misses events before the oldest one.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) reason: GapReason,
    pub(super) requested: String,
    pub(super) channel: Option<ChannelName>,
}

impl Target {
    /// The search skips everything up to here.
    pub(super) fn after(&self) -> Seq {
        match self {
            Self::Continue(at) => at.seq,
            Self::Oldest { after, .. } => *after,
        }
    }

    /// The oldest event after a loss, for a client that wanted to continue from a position.
    pub(super) fn behind_loss(at: Position, channel: Option<ChannelName>) -> Self {
        let (reason, requested) = (GapReason::Evicted, at.to_string());
        Self::Oldest { after: at.seq, missed: Some(Missed { reason, requested, channel }) }
    }

    /// The oldest event that a search found before it had read as much of the disk as it may.
    pub(super) fn behind_cut(after: Seq, each: LastEvents) -> Self {
        let (reason, requested) = (GapReason::SearchLimit, format!("last={}", each.get()));
        Self::Oldest { after, missed: Some(Missed { reason, requested, channel: None }) }
    }
}

impl StartSearch {
    pub(super) fn new(target: Target, head: Seq, asks_truncated: bool) -> Self {
        let search = Search::Journal(target.after());
        Self { target, asks_truncated, head, search }
    }
}
