//! Batches on their way from the log to the shards.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crossbeam_queue::ArrayQueue;
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::batch::Batch;
use crate::{backend::TargetShards, model::Seq};

/// By shard: the inbox of its present incarnation.
#[derive(Debug)]
pub(crate) struct Inboxes {
    by_shard: Box<[RwLock<Arc<Inbox>>]>,
    batches_max: usize,
}

impl Inboxes {
    /// Empty inboxes, each of which holds at most `batches_max`: as many as there are permits of
    /// publishes in flight.
    pub(crate) fn new(shards: usize, batches_max: usize) -> Self {
        let by_shard = (0..shards).map(|_| RwLock::new(Inbox::new(batches_max))).collect();
        Self { by_shard, batches_max }
    }

    /// Hands a batch to its target shards. The others are not woken: they see how far the log is
    /// when they next look.
    pub(super) fn deliver(&self, batch: &Arc<Batch>, targets: TargetShards) {
        for (shard, inbox) in self.by_shard.iter().enumerate() {
            let inbox = inbox.read();
            if targets.contains(shard) {
                inbox.push(Arc::clone(batch));
            }
            inbox.through.store(batch.last().0, Ordering::Release);
        }
    }

    /// A new inbox for a shard that starts; what is left in the old one goes with it.
    pub(super) fn open(&self, shard: usize) -> Arc<Inbox> {
        let inbox = Inbox::new(self.batches_max);
        *self.by_shard[shard].write() = Arc::clone(&inbox);
        inbox
    }
}

/// The batches on their way to one incarnation of a shard. A successor has an inbox of its own: two
/// that took from one would each miss what the other took.
#[derive(Debug)]
pub(crate) struct Inbox {
    ring: ArrayQueue<Arc<Batch>>,
    /// How far the log was at the last batch, whether it was pushed here or had other target
    /// shards.
    through: AtomicU64,
    notify: Notify,
}

impl Inbox {
    fn new(batches_max: usize) -> Arc<Self> {
        Arc::new(Self {
            ring: ArrayQueue::new(batches_max),
            through: AtomicU64::new(0),
            notify: Notify::new(),
        })
    }

    /// Hands a batch over. Each batch holds a permit and the ring has an entry for every permit,
    /// so it is never full; if it were, that would be a bug of the hub, and end the log.
    pub(crate) fn push(&self, batch: Arc<Batch>) {
        self.ring.push(batch).expect("an entry for every permit");
        self.notify.notify_one();
    }

    /// The next batch.
    pub(crate) fn pop(&self) -> Option<Arc<Batch>> {
        self.ring.pop()
    }

    /// Whether no batch waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// How far the log is, if all batches up to there that concern the shard have been taken.
    pub(crate) fn caught_up_to(&self) -> Option<Seq> {
        // Looked at first: what is handed over meanwhile lies after it.
        let through = Seq(self.through.load(Ordering::Acquire));
        self.is_empty().then_some(through)
    }

    /// Waits for a batch.
    pub(crate) async fn filled(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        actors::batch::Run,
        backend::Registry,
        core::Limits,
        model::{ChannelName, Draft, Epoch, Event, EventKind, NewEvent, Position},
    };

    #[test]
    fn a_batch_goes_to_the_shards_it_concerns_and_the_others_see_how_far_the_log_is() {
        let log = Log::new(3);
        let all = log.permits.available_permits();
        let inboxes: Vec<_> = (0..3).map(|shard| log.inboxes.open(shard)).collect();
        let taken = || -> Vec<bool> { inboxes.iter().map(|inbox| inbox.pop().is_some()).collect() };
        log.deliver(&log.batch(1));
        assert_eq!(taken(), [false; 3]);
        assert_eq!(log.permits.available_permits(), all, "its permit is free again");
        assert_eq!(inboxes[0].caught_up_to(), Some(Seq(1)));

        let entry = Arc::clone(&log.batch(0).runs()[0].entry);
        entry.shards().insert(1);
        log.registry.pattern_subscribers().insert(2);
        log.deliver(&log.batch(2));
        assert_eq!(inboxes[0].caught_up_to(), Some(Seq(2)));
        assert_eq!(inboxes[1].caught_up_to(), None, "it has not taken what concerns it");
        assert_eq!(taken(), [false, true, true]);
        assert_eq!(inboxes[1].caught_up_to(), Some(Seq(2)));

        entry.shards().remove(1);
        log.registry.pattern_subscribers().remove(2);
        log.deliver(&log.batch(3));
        assert_eq!(taken(), [false; 3]);
    }

    #[test]
    fn incarnations_of_a_shard_take_nothing_from_each_other() {
        let log = Log::new(1);
        let all = log.permits.available_permits();
        let old = log.inboxes.open(0);
        log.batch(0).runs()[0].entry.shards().insert(0);
        log.deliver(&log.batch(1));
        let new = log.inboxes.open(0);
        log.deliver(&log.batch(2));
        let taken = |inbox: &Inbox| -> Vec<u64> {
            std::iter::from_fn(|| inbox.pop()).map(|batch| batch.first().0).collect()
        };
        assert_eq!(taken(&new), [2]);
        assert_eq!(taken(&old), [1], "its own connections still need it");

        // What a crashed shard has left goes with its inbox, and so do the permits.
        log.deliver(&log.batch(3));
        assert_eq!(log.permits.available_permits(), all - 1);
        drop((old, new));
        let newest = log.inboxes.open(0);
        assert_eq!(log.permits.available_permits(), all);
        assert!(newest.pop().is_none());
    }

    /// What gives batches to the inboxes.
    struct Log {
        registry: Registry,
        permits: Arc<Semaphore>,
        inboxes: Inboxes,
    }

    impl Log {
        fn new(shards: usize) -> Self {
            let registry = Registry::new(&Limits::default());
            Self {
                registry,
                permits: Arc::new(Semaphore::new(8)),
                inboxes: Inboxes::new(shards, 8),
            }
        }

        fn batch(&self, seq: u64) -> Arc<Batch> {
            let name = ChannelName::parse("c").expect("a name");
            let entry = self.registry.directory().find_or_create(&name, 0).expect("room");
            let position = Position { epoch: Epoch::new(1, 1), seq: Seq(seq) };
            let event = Event {
                seq: position.seq,
                epoch: position.epoch,
                time_ms: 0,
                accepted_ms: 0,
                channel: name,
                kind: EventKind::Published,
                frame: Draft::new(&NewEvent::message("x")).finish(position),
            };
            let run = Run { entry, events: vec![Arc::new(event)] };
            let permit = Arc::clone(&self.permits).try_acquire_owned().expect("a permit");
            Arc::new(Batch::new(Seq(seq), Seq(seq), 0, vec![run], vec![permit]))
        }

        fn deliver(&self, batch: &Arc<Batch>) {
            let entries = batch.runs().iter().map(|run| &*run.entry);
            self.inboxes.deliver(batch, self.registry.target_shards(entries));
        }
    }
}
