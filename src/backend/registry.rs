//! The state of channels beside their events: names, counts, the shards that serve them, and the
//! permits of their publishers. It ends with the process, whatever storage keeps the events.

use std::sync::Arc;

use super::{
    channel::{ChannelEntry, ChannelInfo},
    directory::Directory,
    pattern_counts::PatternCounts,
    shard_set::{ShardSet, TargetShards},
    throttles::Throttles,
    tombstones::Tombstones,
};
use crate::{
    core::{ChannelPolicies, Limits},
    model::{ChannelName, Epoch},
};

/// The channels of one hub.
#[derive(Debug)]
pub struct Registry {
    directory: Directory,
    pattern_counts: Arc<PatternCounts>,
    pattern_subscribers: Arc<ShardSet>,
    throttles: Arc<Throttles>,
    tombstones: Tombstones,
}

impl Registry {
    /// An empty registry, which holds as many channels as `limits` allows.
    pub fn new(limits: &Limits) -> Self {
        Self::with_policies(limits, ChannelPolicies::new(limits, Vec::new()))
    }

    /// As [`new`](Self::new), with rules for some channels.
    pub fn with_policies(limits: &Limits, policies: ChannelPolicies) -> Self {
        let publish = &limits.publish;
        let publish_permits =
            (publish.in_flight_max as usize * usize::from(publish.channel_share_percent)) / 100;
        let channels = &limits.channels;
        Self {
            directory: Directory::new(
                channels.channels_max as usize,
                channels.forgotten_max as usize,
                publish_permits.max(1),
                policies,
            ),
            pattern_counts: Arc::default(),
            pattern_subscribers: Arc::default(),
            throttles: Throttles::new(publish.delay_max_ms),
            tombstones: Tombstones::new(channels.tombstones_max as usize),
        }
    }

    /// The channels by name.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// How many subscriptions have which pattern.
    pub fn pattern_counts(&self) -> &Arc<PatternCounts> {
        &self.pattern_counts
    }

    /// The shards that have connections with patterns.
    pub fn pattern_subscribers(&self) -> &Arc<ShardSet> {
        &self.pattern_subscribers
    }

    /// The channels whose publishers wait for a shard.
    pub fn throttles(&self) -> &Arc<Throttles> {
        &self.throttles
    }

    /// The tombstones of closed channels.
    pub fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    /// The target shards of events of these channels. The caller moves the head first: connections
    /// of any other shard begin after these events.
    pub fn target_shards<'a>(
        &'a self,
        channels: impl IntoIterator<Item = &'a ChannelEntry>,
    ) -> TargetShards {
        let named = channels.into_iter().map(ChannelEntry::shards);
        TargetShards::of(named.chain([&*self.pattern_subscribers]))
    }

    /// The report on a channel. Its subscribers are those that name it and those whose patterns
    /// match it.
    pub fn info(&self, entry: &ChannelEntry, epoch: Epoch) -> ChannelInfo {
        let mut info = entry.info(epoch);
        let (streams, pollers) = self.pattern_counts.matching(entry.name());
        info.subscribers += streams;
        info.pollers += pollers;
        info
    }

    /// The report on a channel that does not exist: patterns of subscribers may match its name.
    pub fn empty_info(&self, name: &ChannelName) -> ChannelInfo {
        let (subscribers, pollers) = self.pattern_counts.matching(name);
        ChannelInfo {
            channel: name.clone(),
            subscribers,
            pollers,
            events_total: 0,
            events_retained: 0,
            bytes_retained: 0,
            truncated: false,
            first_id: None,
            last_id: None,
            closed: false,
        }
    }
}
