//! Channels that a start does not create, since all of their events so far are too old for their
//! retention. Their losses are recorded for many events at once.

use std::collections::HashMap;

use crate::{
    backend::Directory,
    model::{ChannelName, Seq},
};

/// The channels, up to a number.
pub(super) struct ExpiredChannels {
    /// The map has a keyed hash, since publishers choose the names.
    channels: HashMap<ChannelName, Expired>,
    names_max: usize,
    now_ms: u64,
}

struct Expired {
    age_max_ms: u64,
    last: Seq,
}

impl ExpiredChannels {
    /// Without channels, for a directory that remembers this many evicted ones. With more channels
    /// here, the result would depend on when they are recorded.
    pub(super) fn new(remembered_max: usize, now_ms: u64) -> Self {
        Self { channels: HashMap::new(), names_max: remembered_max.min(NAMES_MAX), now_ms }
    }

    /// Whether the event is too old and its channel is here; then the event counts as lost.
    pub(super) fn lose(&mut self, name: &str, seq: Seq, time_ms: u64) -> bool {
        match self.channels.get_mut(name) {
            Some(expired) if time_ms + expired.age_max_ms <= self.now_ms => {
                expired.last = seq;
                true
            }
            _ => false,
        }
    }

    /// Adds a channel with an event that is older than `age_max_ms`.
    pub(super) fn add(
        &mut self,
        name: ChannelName,
        age_max_ms: u64,
        seq: Seq,
        directory: &Directory,
    ) {
        self.channels.insert(name, Expired { age_max_ms, last: seq });
        if self.channels.len() > self.names_max {
            self.record(directory);
        }
    }

    /// Records the losses in the directory, in the order of the log. Called before a channel is
    /// created or evicted, which asks for its losses.
    pub(super) fn record(&mut self, directory: &Directory) {
        let mut lost: Vec<_> =
            self.channels.drain().map(|(name, expired)| (expired.last, name)).collect();
        lost.sort_unstable();
        directory.restore_losses(lost.iter().map(|(seq, name)| (name, *seq)), Seq::ZERO);
    }
}

/// Channels that are not recorded yet.
const NAMES_MAX: usize = 4_096;
