//! The channels of a search for last events that have too few events in memory: the log on disk is
//! searched for their older ones.

use std::{collections::HashMap, sync::Arc};

use super::channel::ChannelEntry;
use crate::{
    disk::ChannelHash,
    model::{ChannelName, Seq},
};

/// The channels of one search that are to be searched on disk.
#[derive(Debug)]
pub(super) struct IncompleteChannels {
    /// The map has a keyed hash, since publishers choose the names.
    pub(super) channels: HashMap<ChannelName, IncompleteChannel>,
    channels_max: usize,
    /// The log on disk is still to be searched up to this seq, backwards.
    pub(super) through: Seq,
}

/// A channel of which the search wants more events.
#[derive(Debug)]
pub(super) struct IncompleteChannel {
    pub(super) entry: Arc<ChannelEntry>,
    /// Its events after this seq were examined in memory.
    pub(super) through: Seq,
    /// The last of its events on disk.
    last: Seq,
    /// How many more events are wanted.
    pub(super) left: usize,
}

impl IncompleteChannels {
    /// A collection without channels. When it has more than twice `channels_max`, it keeps the
    /// `channels_max` whose last events are the newest.
    pub(super) fn new(channels_max: usize) -> Self {
        Self { channels: HashMap::new(), channels_max, through: Seq::ZERO }
    }

    /// Whether it is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The memory that so many channels take, in bytes.
    pub(super) fn bytes(channels: usize) -> usize {
        // The table of a map is half empty after it has grown.
        2 * channels * (size_of::<(ChannelName, IncompleteChannel)>() + 1)
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.channels = HashMap::new();
    }

    /// Adds a channel from which `left` more events up to `through` are wanted. Its last event on
    /// disk is `last`.
    pub(super) fn add(&mut self, entry: &Arc<ChannelEntry>, through: Seq, last: Seq, left: usize) {
        self.through = self.through.max(last);
        let incomplete = IncompleteChannel { entry: Arc::clone(entry), through, last, left };
        self.channels.insert(entry.name().clone(), incomplete);
        if self.channels.len() > 2 * self.channels_max {
            let mut lasts: Vec<Seq> = self.channels.values().map(|channel| channel.last).collect();
            let (_, oldest, _) = lasts.select_nth_unstable(self.channels_max);
            self.channels.retain(|_, channel| channel.last > *oldest);
        }
    }

    /// Drops the channels whose events on disk were all examined. Returns the first event of the
    /// others on disk, or a seq before it.
    pub(super) fn first(&mut self) -> Option<Seq> {
        let mut first = None;
        self.channels.retain(|_, channel| {
            let unloaded = channel.entry.events().with_history(|history| history.unloaded());
            let oldest = unloaded.map(|(oldest, _)| oldest).filter(|seq| *seq <= self.through);
            first = first.into_iter().chain(oldest).min();
            oldest.is_some()
        });
        first
    }

    /// The sorted hashes of the channels; `None` if there are more than [`HASHES_MAX`].
    pub(super) fn hashes(&self) -> Option<Vec<ChannelHash>> {
        let names = self.channels.keys().map(|name| ChannelHash::of(name.as_str()));
        let mut hashes: Vec<_> = (self.channels.len() <= HASHES_MAX).then(|| names.collect())?;
        hashes.sort_unstable();
        Some(hashes)
    }
}

/// With at most this many channels a turn skips the blocks that have none of them; with more, it
/// reads every block.
const HASHES_MAX: usize = if cfg!(test) { 4 } else { 1_024 };
