//! Channels whose last events are looked for, and lack some that may be on disk.

use std::{collections::HashMap, sync::Arc};

use super::channel::ChannelEntry;
use crate::{
    disk::ChannelHash,
    model::{ChannelName, Seq},
};

/// The channels.
#[derive(Debug)]
pub(super) struct LackingChannels {
    /// With a keyed hash: publishers choose the names.
    pub(super) channels: HashMap<ChannelName, Lacking>,
    channels_max: usize,
    /// The log was looked at behind this seq.
    pub(super) through: Seq,
}

/// A channel that lacks events.
#[derive(Debug)]
pub(super) struct Lacking {
    pub(super) entry: Arc<ChannelEntry>,
    /// Its events behind this one have been looked at in memory.
    pub(super) through: Seq,
    /// The last of those on disk.
    last: Seq,
    /// How many it lacks.
    pub(super) left: usize,
}

impl LackingChannels {
    /// At least `channels_max` channels, at most twice as many: those whose last events are the newest.
    pub(super) fn new(channels_max: usize) -> Self {
        Self { channels: HashMap::new(), channels_max, through: Seq::ZERO }
    }

    /// Whether it is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// What so many take in memory.
    pub(super) fn bytes(channels: usize) -> usize {
        // The table of a map is half empty after it has grown.
        2 * channels * (size_of::<(ChannelName, Lacking)>() + 1)
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self) {
        self.channels = HashMap::new();
    }

    /// Adds a channel that lacks `left` events up to `through`, the last of which is `last`.
    pub(super) fn add(&mut self, entry: &Arc<ChannelEntry>, through: Seq, last: Seq, left: usize) {
        self.through = self.through.max(last);
        let lacking = Lacking { entry: Arc::clone(entry), through, last, left };
        self.channels.insert(entry.name().clone(), lacking);
        if self.channels.len() > 2 * self.channels_max {
            let mut lasts: Vec<Seq> = self.channels.values().map(|channel| channel.last).collect();
            let (_, oldest, _) = lasts.select_nth_unstable(self.channels_max);
            self.channels.retain(|_, channel| channel.last > *oldest);
        }
    }

    /// Drops the channels whose events on disk have all been looked at; gives the first event of the others, or
    /// a seq before it.
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

    /// The channels, sorted, unless they are many.
    pub(super) fn hashes(&self) -> Option<Vec<ChannelHash>> {
        let names = self.channels.keys().map(|name| ChannelHash::of(name.as_str()));
        let mut hashes: Vec<_> = (self.channels.len() <= HASHES_MAX).then(|| names.collect())?;
        hashes.sort_unstable();
        Some(hashes)
    }
}

/// Channels up to which a turn skips blocks without them; with more it reads all.
const HASHES_MAX: usize = if cfg!(test) { 4 } else { 1_024 };
