//! Which shard serves a stream. Streams of a small channel share a shard, that of the first of
//! them: an event of it wakes one thread.
//!
//! Which shard accepts a connection is chance. A stream that was accepted elsewhere is sent to that
//! shard as soon as it is known for what it is, before it is registered anywhere. Streams of large
//! channels stay where they are, so that every shard has its part of a large fan-out
//! (docs/adr/025-target-shards.md).

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ractor::MessagingErr;

use super::{ShardMsg, slot::Subscribed};
use crate::actors::{hub_state::HubState, peer::StreamSocket, subscriber::Subscriber};

/// A stream on its way to the shard it is to live on. Should that fail meanwhile, the socket is
/// closed, as those that it has, and the client resumes.
pub(crate) struct StreamTransfer {
    pub(super) subscriber: Subscriber,
    pub(super) socket: StreamSocket,
    /// What goes before the stream.
    pub(super) head: Bytes,
}

impl StreamTransfer {
    /// Hands a stream that shard `here` has accepted on to the shard where it is to live. Gives it
    /// back if that is this one, or the other is not there.
    pub(super) fn send_to(self, shared: &HubState, here: usize) -> Option<Self> {
        let Some(target) = self.target(here) else { return Some(self) };
        let target = shared.refs.lock().shards.get(target).cloned().flatten();
        let Some(target) = target else { return Some(self) };
        match target.cast(ShardMsg::Adopt(Box::new(self))) {
            Err(MessagingErr::SendErr(ShardMsg::Adopt(transfer))) => Some(*transfer),
            _ => None,
        }
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
