//! The connections on the shards: a front that attaches peers instead of accepting sockets.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use visnyk::actors::{Front, LocalShard};
use visnyk::core::Subscription;
use visnyk::hub::{Hub, StreamRequest, SubscribeError};
use visnyk::model::ChannelSelector;

use super::peer::{Counts, Hall, MemoryPeer};
use crate::outcome::Verified;

/// The connections to make, and what has come of them.
#[derive(Debug)]
pub(super) struct Crowd {
    hub: Hub,
    plan: CrowdPlan,
    /// By shard.
    counts: Vec<Arc<Counts>>,
    published: Arc<AtomicU64>,
    /// Connections there are to be, on all shards together.
    wanted: AtomicUsize,
    refused: AtomicU64,
}

/// How the connections are.
#[derive(Debug, Clone)]
pub(super) struct CrowdPlan {
    pub(super) shards: usize,
    pub(super) channels: usize,
    /// Whether each names a second channel, which keeps it out of the plain lane.
    pub(super) mixed: bool,
    /// One in so many is slow; 0: all are fast.
    pub(super) slow_every: usize,
    /// Bytes that a slow one takes at a time.
    pub(super) slow_bytes: usize,
}

impl Crowd {
    pub(super) fn new(hub: Hub, plan: CrowdPlan) -> Arc<Self> {
        Arc::new(Self {
            hub,
            counts: (0..plan.shards).map(|_| Arc::default()).collect(),
            published: Arc::default(),
            wanted: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            plan,
        })
    }

    /// Lets it grow to so many connections.
    pub(super) fn grow_to(&self, connections: usize) {
        self.wanted.store(connections, Ordering::Relaxed);
    }

    /// One more event is about to be published to each channel; gives its number. No connection may
    /// be made meanwhile.
    pub(super) fn next_event(&self) -> u32 {
        self.published.fetch_add(1, Ordering::Relaxed) as u32
    }

    /// A sum over the shards.
    pub(super) fn sum(&self, count: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.counts.iter().map(|counts| count(counts).load(Ordering::Relaxed)).sum()
    }

    /// The longest that a shard let another task of its thread wait since this was last asked, in
    /// microseconds. Its timer is late by up to 2 ms anyway.
    pub(super) fn take_pause_us(&self) -> u64 {
        let pauses = self.counts.iter().map(|counts| counts.pause_us.swap(0, Ordering::Relaxed));
        pauses.max().unwrap_or(0)
    }

    /// Subscriptions that the hub did not admit.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What the checks have found. A delivery out of order counts as lost when it is overtaken and
    /// as repeated when it comes.
    pub(super) fn verified(&self) -> Verified {
        Verified {
            events: self.published.load(Ordering::Relaxed) * self.plan.channels as u64,
            deliveries: self.sum(|counts| &counts.deliveries),
            lost: self.sum(|counts| &counts.lost),
            repeated: self.sum(|counts| &counts.repeated),
            reordered: 0,
            corrupt: self.sum(|counts| &counts.corrupt),
            gaps: 0,
        }
    }

    /// The name of a channel.
    pub(super) fn channel(number: usize) -> String {
        format!("memory/{number}")
    }

    fn request(&self, connection: usize) -> StreamRequest {
        let name = Self::channel(connection % self.plan.channels);
        let names = if self.plan.mixed { vec![name.as_str(), "quiet"] } else { vec![&*name] };
        let selectors =
            names.iter().map(|name| ChannelSelector::parse(name).expect("a channel's name"));
        StreamRequest::new(Subscription::new(selectors, [], 2).expect("two channels at most"))
    }

    fn connect(
        &self,
        shard: &LocalShard,
        hall: &Rc<Hall>,
        connection: usize,
    ) -> Result<(), SubscribeError> {
        let subscriber = self.hub.admit_stream(self.request(connection))?;
        let is_slow = self.plan.slow_every > 0 && connection.is_multiple_of(self.plan.slow_every);
        let peer = Box::new(MemoryPeer::new(hall, is_slow));
        shard.attach_peer(subscriber, peer, Bytes::new(), None);
        Ok(())
    }
}

/// The front that the hub is given.
#[derive(Debug)]
pub(super) struct CrowdFront(pub(super) Arc<Crowd>);

impl Front for CrowdFront {
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
        let crowd = Arc::clone(&self.0);
        Box::pin(serve(crowd, shard))
    }
}

/// Connects those of this shard, and lets slow ones take more now and then.
async fn serve(crowd: Arc<Crowd>, shard: LocalShard) {
    let index = shard.index();
    let counts = Arc::clone(&crowd.counts[index]);
    let hall = Hall::new(counts, Arc::clone(&crowd.published), crowd.plan.slow_bytes);
    // The connections of this shard: those whose number modulo the shards is its index.
    let mut next = index;
    loop {
        let target = crowd.wanted.load(Ordering::Relaxed);
        let mut attached = 0;
        let begun = Instant::now();
        while next < target && attached < ATTACHED_PER_TURN {
            if crowd.connect(&shard, &hall, next).is_err() {
                crowd.refused.fetch_add(1, Ordering::Relaxed);
            }
            next += crowd.plan.shards;
            attached += 1;
        }
        hall.wake_blocked();
        // What attaching took counts: the shard does nothing else meanwhile.
        let asked = if attached > 0 { begun } else { Instant::now() };
        let pause = if attached > 0 {
            tokio::task::yield_now().await;
            Duration::ZERO
        } else {
            tokio::time::sleep(SLOW_PAUSE).await;
            SLOW_PAUSE
        };
        let late = asked.elapsed().saturating_sub(pause).as_micros() as u64;
        hall.counts.pause_us.fetch_max(late, Ordering::Relaxed);
    }
}

/// Connections made before the shard does something else.
const ATTACHED_PER_TURN: usize = 64;
/// How long a slow peer is full.
const SLOW_PAUSE: Duration = Duration::from_millis(5);
