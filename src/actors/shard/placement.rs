//! Chooses the shard that serves a stream. All streams of a small channel go to the shard of the
//! first one, so that an event of the channel wakes one thread.
//!
//! The kernel spreads connections over the shards by hash. A stream that another shard has accepted
//! is moved as soon as its channel is known, before it is registered. Streams of large channels are
//! not moved, so that a large fan-out is spread over all shards (docs/adr/025-target-shards.md).

use std::sync::atomic::Ordering;

use super::slot::Subscribed;
use crate::actors::{messages::StreamTransfer, shards_handle::ShardsHandle};

impl StreamTransfer {
    /// Moves a stream that shard `here` has accepted to its target shard. Returns the stream if
    /// `here` is the target, or the target is down.
    pub(super) fn send_to(self, shards: &ShardsHandle, here: usize) -> Option<Self> {
        let Some(target) = self.target(here) else { return Some(self) };
        shards.adopt(target, self)
    }

    fn target(&self, here: usize) -> Option<usize> {
        if !Subscribed::is_plain(&self.subscriber) {
            return None;
        }
        let entry = self.subscriber.named.first()?.entry();
        let streams = entry.streams().load(Ordering::Relaxed);
        if streams > STREAMS_TOGETHER_MAX {
            return None;
        }
        let home = entry.home_shard(here);
        (home != here).then_some(home)
    }
}

/// Streams of a channel, this one included, up to which they share a shard: as many as one slice of
/// the fan-out serves.
const STREAMS_TOGETHER_MAX: u32 = 64;
