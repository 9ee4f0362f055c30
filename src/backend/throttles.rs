//! Channels whose publishers have to wait, since their events wait too long on a shard.
//!
//! Permits bound how many events are on their way to the shards, not how long they take. A shard
//! throttles a channel while an event published now would wait too long there, and releases it when
//! its queue is short enough again. Only publishers of throttled channels wait.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use tokio::sync::watch;

use super::channel::ChannelId;

/// The throttled channels of a hub.
#[derive(Debug)]
pub struct Throttles {
    delay_max_ms: u64,
    channels: RwLock<FxHashMap<ChannelId, Throttled>>,
    /// How many channels are throttled, so that a publisher takes a lock only while there are any.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Throttled {
    /// How many shards throttle it, for how many reasons.
    holders: usize,
    /// Dropped when the last of them releases it.
    released: watch::Sender<()>,
}

/// A channel is throttled while this exists, so a shard that crashes throttles none.
#[derive(Debug)]
pub struct Throttle {
    throttles: Arc<Throttles>,
    channel: ChannelId,
}

/// The end of a channel's throttling.
#[derive(Debug)]
pub struct Release(watch::Receiver<()>);

impl Throttles {
    /// No channel is throttled yet. Shards throttle a channel whose events would wait longer
    /// than `delay_max_ms`.
    pub fn new(delay_max_ms: u32) -> Arc<Self> {
        let (channels, count) = (RwLock::default(), AtomicUsize::new(0));
        Arc::new(Self { delay_max_ms: delay_max_ms.into(), channels, count })
    }

    /// How long an event may wait on a shard, in milliseconds.
    pub fn delay_max_ms(&self) -> u64 {
        self.delay_max_ms
    }

    /// How many channels are throttled.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether no channel is throttled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Throttles a channel.
    pub fn throttle(self: &Arc<Self>, channel: ChannelId) -> Throttle {
        let mut channels = self.channels.write();
        let released = || Throttled { holders: 0, released: watch::Sender::new(()) };
        channels.entry(channel).or_insert_with(released).holders += 1;
        self.count.store(channels.len(), Ordering::Relaxed);
        Throttle { throttles: Arc::clone(self), channel }
    }

    /// The release of the first of these channels that is throttled.
    pub fn first(&self, channels: impl IntoIterator<Item = ChannelId>) -> Option<Release> {
        if self.is_empty() {
            return None;
        }
        let throttled = self.channels.read();
        let first = channels.into_iter().find_map(|channel| throttled.get(&channel))?;
        Some(Release(first.released.subscribe()))
    }
}

impl Release {
    /// Waits until the channel is no longer throttled.
    pub async fn wait(mut self) {
        // Nothing is ever sent: this waits until the sender is dropped.
        while self.0.changed().await.is_ok() {}
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        let mut channels = self.throttles.channels.write();
        if let Some(throttled) = channels.get_mut(&self.channel) {
            throttled.holders -= 1;
            if throttled.holders == 0 {
                channels.remove(&self.channel);
            }
        }
        self.throttles.count.store(channels.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_channel_is_released_when_the_last_shard_releases_it() {
        let throttles = Throttles::new(50);
        let [a, b, c] = [ChannelId(1), ChannelId(2), ChannelId(3)];
        assert!(throttles.first([a, b, c]).is_none());
        let (one, other, third) =
            (throttles.throttle(a), throttles.throttle(a), throttles.throttle(b));
        assert_eq!(throttles.len(), 2);
        assert!(throttles.first([c]).is_none(), "other channels do not wait");
        let released = throttles.first([c, a]).expect("it is throttled").wait();
        tokio::pin!(released);
        drop((one, third));
        assert!(throttles.first([b]).is_none());
        tokio::select! {
            biased;
            () = &mut released => panic!("one shard throttles it still"),
            () = std::future::ready(()) => {}
        }
        drop(other);
        released.await;
        assert!(throttles.is_empty());
    }
}
