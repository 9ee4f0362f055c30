//! The shard that serves a stream. Streams of a small channel share a shard, that of the first of
//! them: an event of it wakes one thread.
//!
//! Which shard accepts a connection is chance. A stream that was accepted elsewhere is sent to that
//! shard as soon as its channel is known, before it is registered. Streams of large channels stay
//! where they are, so that every shard has its part of a large fan-out
//! (docs/adr/025-target-shards.md).

use std::sync::atomic::Ordering;

use super::slot::Subscribed;
use crate::actors::{messages::StreamTransfer, shards_handle::ShardsHandle};

impl StreamTransfer {
    /// Hands a stream that shard `here` has accepted on to the shard where it is to live. Gives it
    /// back if that is this one, or the other is not there.
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
        // If two came in on two shards at once, those that follow go to one of them.
        entry.shards().first().filter(|&shard| shard != here)
    }
}

/// Streams of a channel that live together, this one included: as many as one slice of the fan-out
/// serves.
const STREAMS_TOGETHER_MAX: u32 = 64;
