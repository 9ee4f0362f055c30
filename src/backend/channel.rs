//! The registry's record of one channel: its name, its counts, and whether an actor has claimed it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use parking_lot::RwLock;
use tokio::sync::Semaphore;

use super::{channel_events::ChannelEvents, losses::Losses, shard_set::ShardSet};
use crate::{
    core::{ChannelPolicy, Rate, TooFast},
    model::{ChannelName, Epoch, Position, Seq},
};

/// The identity of one incarnation of a channel; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(super) u64);

/// The registry's record of one channel. Everything that may publish to it or read it holds an
/// `Arc`; it is evicted only when nothing does. It also holds the channel's events (used only by
/// the event store), so that a publish does one look-up.
#[derive(Debug)]
pub struct ChannelEntry {
    id: ChannelId,
    name: ChannelName,
    events: ChannelEvents,
    used_ms: AtomicU64,
    streams: AtomicU32,
    pollers: AtomicU32,
    /// The shards with connections that name it.
    shards: ShardSet,
    /// The number, plus one, of the shard that its plain streams share while they are few; 0 while
    /// no shard is chosen.
    home: AtomicU32,
    /// Whether a channel actor has claimed it.
    claimed: AtomicBool,
    /// When it needs an actor again, in milliseconds since 1970.
    wake_at_ms: AtomicU64,
    /// Its part of the publish permits.
    publish_permits: Arc<Semaphore>,
    policy: RwLock<Arc<ChannelPolicy>>,
    /// Whether its policy limits its rate. Without a limit, publishers need not lock the policy.
    is_rate_limited: AtomicBool,
    rate: Rate,
    /// Whether its events go into a log on disk.
    is_durable: AtomicBool,
}

impl ChannelEntry {
    pub(super) fn new(
        id: ChannelId,
        name: ChannelName,
        earlier: Losses,
        policy: Arc<ChannelPolicy>,
        publish_permits: usize,
        now_ms: u64,
    ) -> Self {
        Self {
            id,
            name,
            events: ChannelEvents::new(earlier, policy.history.clone()),
            used_ms: AtomicU64::new(now_ms),
            streams: AtomicU32::new(0),
            pollers: AtomicU32::new(0),
            shards: ShardSet::default(),
            home: AtomicU32::new(0),
            claimed: AtomicBool::new(false),
            wake_at_ms: AtomicU64::new(now_ms),
            publish_permits: Arc::new(Semaphore::new(publish_permits)),
            is_rate_limited: AtomicBool::new(policy.events_per_s > 0),
            is_durable: AtomicBool::new(policy.is_durable),
            policy: RwLock::new(policy),
            rate: Rate::default(),
        }
    }

    /// Its identity.
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// Its events.
    #[inline]
    pub fn events(&self) -> &ChannelEvents {
        &self.events
    }

    /// Its policy.
    pub fn policy(&self) -> Arc<ChannelPolicy> {
        Arc::clone(&self.policy.read())
    }

    /// Sets its policy. Connections keep theirs.
    pub(super) fn set_policy(&self, policy: &Arc<ChannelPolicy>) {
        if self.policy() == *policy {
            // Usual case when other limits change: do not wake the channel.
            *self.policy.write() = Arc::clone(policy);
            return;
        }
        self.events.set_limits(policy.history.clone());
        self.is_rate_limited.store(policy.events_per_s > 0, Ordering::Relaxed);
        self.is_durable.store(policy.is_durable, Ordering::Relaxed);
        *self.policy.write() = Arc::clone(policy);
        // Its events may be too old under the new policy.
        self.wake_at(0);
    }

    /// Whether the events that it takes in a second are limited.
    #[inline]
    pub fn is_rate_limited(&self) -> bool {
        self.is_rate_limited.load(Ordering::Relaxed)
    }

    /// Whether a log on disk has its events from now on.
    pub fn is_durable(&self) -> bool {
        self.is_durable.load(Ordering::Relaxed)
    }

    /// Counts events against its rate limit, or refuses them.
    pub fn take_rate(&self, now_ms: u64, events: u32) -> Result<(), TooFast> {
        let policy = self.policy();
        self.rate.take(now_ms, events, policy.events_per_s, policy.events_burst)
    }

    /// Notes a use, which keeps its actor for another idle time.
    pub fn touch(&self, now_ms: u64) {
        self.used_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When it was last used, in milliseconds since 1970.
    pub fn used_ms(&self) -> u64 {
        self.used_ms.load(Ordering::Relaxed)
    }

    /// Claims it for an actor; false when it is claimed already. If the actor dies without calling
    /// [`wake_at`](Self::wake_at), the next sweep restarts it.
    pub fn claim(&self) -> bool {
        let is_claimed = !self.claimed.swap(true, Ordering::AcqRel);
        if is_claimed {
            self.wake_at(0);
        }
        is_claimed
    }

    /// Releases the claim.
    pub fn release(&self) {
        self.claimed.store(false, Ordering::Release);
    }

    /// Sets when it needs an actor again, in milliseconds since 1970.
    pub fn wake_at(&self, at_ms: u64) {
        self.wake_at_ms.store(at_ms, Ordering::Release);
    }

    /// Whether it has no actor, and the time has come when it needs one.
    pub fn needs_actor(&self, now_ms: u64) -> bool {
        !self.claimed.load(Ordering::Acquire) && self.wake_at_ms.load(Ordering::Acquire) <= now_ms
    }

    /// Cuts its tombstone short.
    pub fn expire(&self) {
        self.events.expire();
        self.wake_at(0);
    }

    /// Whether it has neither subscribers nor events.
    pub fn is_removable(&self) -> bool {
        self.has_no_subscribers() && self.events.with_history(|history| history.is_empty())
    }

    /// Whether it is open and has no events: there is nothing to do for it but to evict it once it
    /// is idle.
    pub fn is_open_and_empty(&self) -> bool {
        !self.events.is_closed() && self.events.with_history(|history| history.is_empty())
    }

    /// Its part of the publish permits.
    pub fn publish_permits(&self) -> &Arc<Semaphore> {
        &self.publish_permits
    }

    /// Counts streams that name it.
    pub fn streams(&self) -> &AtomicU32 {
        &self.streams
    }

    /// Counts waiting polls that name it.
    pub fn pollers(&self) -> &AtomicU32 {
        &self.pollers
    }

    /// Streams and waiting polls that name it.
    pub fn named_by(&self) -> (u32, u32) {
        (self.streams.load(Ordering::Relaxed), self.pollers.load(Ordering::Relaxed))
    }

    /// The shards that have connections which name it.
    pub fn shards(&self) -> &ShardSet {
        &self.shards
    }

    /// The shard that its plain streams share while they are few: `here` if none is chosen yet. The
    /// choice holds until the last stream has left. It is made before a stream is registered: the
    /// first streams, which often come at the same time, would otherwise be split over several
    /// shards.
    pub fn home_shard(&self, here: usize) -> usize {
        let chosen = here as u32 + 1;
        match self.home.compare_exchange(0, chosen, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => here,
            Err(earlier) => earlier as usize - 1,
        }
    }

    /// Counts one stream less. With the last stream the channel loses its home shard: the next
    /// stream chooses one anew.
    pub fn remove_stream(&self) {
        if self.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.home.store(0, Ordering::Relaxed);
        }
    }

    /// Whether no living subscription names it.
    pub fn has_no_subscribers(&self) -> bool {
        self.streams.load(Ordering::Relaxed) == 0 && self.pollers.load(Ordering::Relaxed) == 0
    }

    /// Its state, for the routes that report on channels.
    pub fn info(&self, epoch: Epoch) -> ChannelInfo {
        let position = |seq| Position { epoch, seq };
        let (truncated, events_total, events_retained, bytes_retained, first_id, last_id) =
            self.events.with_history(|history| {
                (
                    history.evicted_through() > Seq::ZERO,
                    history.appended(),
                    history.len(),
                    history.bytes(),
                    history.first().map(position),
                    history.last().map(position),
                )
            });
        ChannelInfo {
            channel: self.name.clone(),
            subscribers: self.streams.load(Ordering::Relaxed),
            pollers: self.pollers.load(Ordering::Relaxed),
            events_total,
            events_retained,
            bytes_retained,
            truncated,
            first_id,
            last_id,
            closed: self.events.is_closed(),
        }
    }
}

/// The state of a channel, for the routes that report on channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub channel: ChannelName,
    /// Streams that receive it.
    pub subscribers: u32,
    /// Waiting polls that receive it.
    pub pollers: u32,
    /// Events appended since this hub created the channel's record, those read from the log at its
    /// start included.
    pub events_total: u64,
    /// Events in its history, on disk and in memory.
    pub events_retained: u64,
    /// Their frame bytes.
    pub bytes_retained: u64,
    /// Whether events before the oldest retained one are gone.
    pub truncated: bool,
    /// The oldest retained event.
    pub first_id: Option<Position>,
    /// The newest retained event.
    pub last_id: Option<Position>,
    /// Whether it is closed.
    pub closed: bool,
}
