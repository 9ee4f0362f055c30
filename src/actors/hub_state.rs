//! What the actors of one hub share with each other and with the hub's handle.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use crossbeam_queue::ArrayQueue;
use parking_lot::{Mutex, RwLock};
use ractor::ActorRef;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, Semaphore, watch};

use super::{
    batch::Batch,
    channels::ChannelsMsg,
    clock::Clock,
    committer::{Committer, Submission},
    lease::Leases,
    log::LogMsg,
    root::RootMsg,
    shard::ShardMsg,
    subscriber::Shape,
};
use crate::{backend::MemoryBackend, model::Seq, telemetry::Metrics};

/// One hub's common ground.
#[derive(Debug)]
pub(crate) struct HubState {
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// What publishers have handed in. It holds at most one entry a permit, so it is never full.
    pub(crate) submissions: ArrayQueue<Submission>,
    /// Whether the log's actor has been woken and has not looked since.
    pub(crate) log_awake: AtomicBool,
    pub(crate) committer: Mutex<Committer>,
    pub(crate) permits: Arc<Semaphore>,
    /// Room for the bytes of request bodies.
    pub(crate) bodies: Arc<Semaphore>,
    /// Room for those of small bodies.
    pub(crate) small_bodies: Arc<Semaphore>,
    /// Room for the bytes of large answers.
    pub(crate) answers: Arc<Semaphore>,
    /// By shard: the inbox of its present incarnation.
    inboxes: Box<[RwLock<Arc<Inbox>>]>,
    pub(crate) connections: Arc<AtomicU32>,
    pub(crate) leases: Arc<Leases>,
    /// Permits of streams that are sent history.
    pub(crate) replays: Arc<Semaphore>,
    pub(crate) connection_ids: AtomicU64,
    pub(crate) next_shard: AtomicU32,
    pub(crate) draining: AtomicBool,
    pub(crate) refs: Mutex<Refs>,
    /// Why the hub can go on no longer.
    pub(crate) fatal: watch::Sender<Option<String>>,
    shapes: Mutex<FxHashMap<Shape, Arc<Shape>>>,
}

/// The actors, as long as they live.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    pub(crate) root: Option<ActorRef<RootMsg>>,
    pub(crate) log: Option<ActorRef<LogMsg>>,
    pub(crate) channels: Option<ActorRef<ChannelsMsg>>,
    pub(crate) shards: Vec<Option<ActorRef<ShardMsg>>>,
}

/// The batches on their way to one incarnation of a shard. A successor has an inbox of its own: two
/// that took from one would each miss what the other took.
#[derive(Debug)]
pub(crate) struct Inbox {
    ring: ArrayQueue<Arc<Batch>>,
    /// How far the log was at the last batch, whether it was pushed here or had other target shards.
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
    /// so it is never full; if it were, that would be our bug, and the log's to die of.
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

impl HubState {
    pub(crate) fn new(
        backend: MemoryBackend,
        metrics: Arc<Metrics>,
        clock: Clock,
        shards: usize,
    ) -> Arc<Self> {
        let in_flight_max = backend.limits().publish.in_flight_max.max(1) as usize;
        let bodies_bytes_max = backend.limits().publish.bodies_bytes_max;
        let committer = Mutex::new(Committer::new(backend.head(), &backend.limits().publish));
        let bodies = usize::try_from(bodies_bytes_max).unwrap_or(usize::MAX);
        let room = |bytes: usize| Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        let answers_bytes_max = backend.limits().connections.answers_bytes_max;
        let replays_max = backend.limits().connections.replays_max.max(1) as usize;
        Arc::new(Self {
            replays: Arc::new(Semaphore::new(replays_max)),
            bodies: room(bodies),
            small_bodies: room(bodies / SMALL_BODIES_PART),
            answers: room(usize::try_from(answers_bytes_max).unwrap_or(usize::MAX)),
            backend: Arc::new(backend),
            metrics,
            clock,
            submissions: ArrayQueue::new(in_flight_max),
            log_awake: AtomicBool::new(false),
            committer,
            permits: Arc::new(Semaphore::new(in_flight_max)),
            inboxes: (0..shards).map(|_| RwLock::new(Inbox::new(in_flight_max))).collect(),
            connections: Arc::default(),
            leases: Arc::default(),
            connection_ids: AtomicU64::new(0),
            next_shard: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            refs: Mutex::new(Refs { shards: vec![None; shards], ..Refs::default() }),
            fatal: watch::Sender::new(None),
            shapes: Mutex::default(),
        })
    }

    /// The one `Arc` of equal shapes, so that connections share bytes by its address. Past
    /// [`SHAPES_MAX`] living shapes a new one stands alone, and shares with nobody.
    pub(crate) fn intern(&self, shape: Shape) -> Arc<Shape> {
        let mut shapes = self.shapes.lock();
        if let Some(known) = shapes.get(&shape) {
            return Arc::clone(known);
        }
        if shapes.len() >= SHAPES_MAX {
            shapes.retain(|_, known| Arc::strong_count(known) > 1);
        }
        let arc = Arc::new(shape.clone());
        if shapes.len() < SHAPES_MAX {
            shapes.insert(shape, Arc::clone(&arc));
        }
        arc
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Hands a committed batch to the shards that it concerns. The others are not woken: they see
    /// how far the log is when they next look.
    pub(crate) fn deliver(&self, batch: &Arc<Batch>) {
        let target_shards = self.backend.target_shards(batch.runs().iter().map(|run| &*run.entry));
        for (shard, inbox) in self.inboxes.iter().enumerate() {
            let inbox = inbox.read();
            if target_shards.contains(shard) {
                inbox.push(Arc::clone(batch));
            }
            inbox.through.store(batch.last().0, Ordering::Release);
        }
    }

    /// A new inbox for a shard that starts; what is left in the old one goes with it.
    pub(crate) fn open_inbox(&self, shard: usize) -> Arc<Inbox> {
        let inbox = Inbox::new(self.limits().publish.in_flight_max.max(1) as usize);
        *self.inboxes[shard].write() = Arc::clone(&inbox);
        inbox
    }

    /// Wakes the log's actor, once until it looks.
    pub(crate) fn wake_log(&self) {
        if self.log_awake.swap(true, Ordering::AcqRel) {
            return;
        }
        let woken =
            self.refs.lock().log.as_ref().is_some_and(|log| log.cast(LogMsg::Commit).is_ok());
        if !woken {
            self.stop_log();
        }
    }

    /// The log takes nothing more; whoever waits for it is told.
    pub(crate) fn stop_log(&self) {
        self.committer.lock().stop();
        self.refs.lock().log = None;
        self.log_awake.store(false, Ordering::Release);
        while self.submissions.pop().is_some() {}
    }

    /// Gives a channel an actor if it has none.
    pub(crate) fn ensure_actor(&self, entry: &Arc<crate::backend::ChannelEntry>) {
        if entry.claim() {
            let sent = match &self.refs.lock().channels {
                Some(channels) => channels.cast(ChannelsMsg::Start(Arc::clone(entry))).is_ok(),
                None => false,
            };
            if !sent {
                // The sweep of the next supervisor finds it.
                entry.release();
            }
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn limits(&self) -> &crate::core::Limits {
        self.backend.limits()
    }
}

/// Living shapes that connections share.
const SHAPES_MAX: usize = 1_024;
/// Small bodies have room of their own beside that of all others: this part of it.
const SMALL_BODIES_PART: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors::batch::Run,
        core::Limits,
        model::{ChannelName, Draft, Epoch, Event, EventKind, NewEvent, Seq},
    };

    #[test]
    fn a_batch_goes_to_the_shards_it_concerns_and_the_others_see_how_far_the_log_is() {
        let backend = MemoryBackend::new(Epoch::new(1, 1), Limits::default());
        let shared = HubState::new(backend, Metrics::new(), Clock::start(), 3);
        let all = shared.permits.available_permits();
        let inboxes: Vec<_> = (0..3).map(|shard| shared.open_inbox(shard)).collect();
        let taken = || -> Vec<bool> { inboxes.iter().map(|inbox| inbox.pop().is_some()).collect() };
        shared.deliver(&batch(&shared, 1));
        assert_eq!(taken(), [false; 3]);
        assert_eq!(shared.permits.available_permits(), all, "nobody keeps its permit");
        assert_eq!(inboxes[0].caught_up_to(), Some(Seq(1)));

        let entry = Arc::clone(&batch(&shared, 0).runs()[0].entry);
        entry.shards().insert(1);
        shared.backend.pattern_subscribers().insert(2);
        shared.deliver(&batch(&shared, 2));
        assert_eq!(inboxes[0].caught_up_to(), Some(Seq(2)));
        assert_eq!(inboxes[1].caught_up_to(), None, "it has not taken what concerns it");
        assert_eq!(taken(), [false, true, true]);
        assert_eq!(inboxes[1].caught_up_to(), Some(Seq(2)));

        entry.shards().remove(1);
        shared.backend.pattern_subscribers().remove(2);
        shared.deliver(&batch(&shared, 3));
        assert_eq!(taken(), [false; 3]);
    }

    #[test]
    fn incarnations_of_a_shard_take_nothing_from_each_other() {
        let backend = MemoryBackend::new(Epoch::new(1, 1), Limits::default());
        let shared = HubState::new(backend, Metrics::new(), Clock::start(), 1);
        let all = shared.permits.available_permits();
        let old = shared.open_inbox(0);
        batch(&shared, 0).runs()[0].entry.shards().insert(0);
        shared.deliver(&batch(&shared, 1));
        let new = shared.open_inbox(0);
        shared.deliver(&batch(&shared, 2));
        let taken = |inbox: &Inbox| -> Vec<u64> {
            std::iter::from_fn(|| inbox.pop()).map(|batch| batch.first().0).collect()
        };
        assert_eq!(taken(&new), [2]);
        assert_eq!(taken(&old), [1], "its own connections still need it");

        // What a crashed shard has left goes with its inbox, and so do the permits.
        shared.deliver(&batch(&shared, 3));
        assert_eq!(shared.permits.available_permits(), all - 1);
        drop((old, new));
        let newest = shared.open_inbox(0);
        assert_eq!(shared.permits.available_permits(), all);
        assert!(newest.pop().is_none());
    }

    fn batch(shared: &HubState, seq: u64) -> Arc<Batch> {
        let name = ChannelName::parse("c").expect("a name");
        let entry = shared.backend.directory().find_or_create(&name, 0).expect("room");
        let position = shared.backend.position(Seq(seq));
        let event = Event {
            seq: position.seq,
            epoch: position.epoch,
            time_ms: 0,
            channel: name,
            kind: EventKind::Published,
            frame: Draft::new(&NewEvent::message("x")).finish(position),
        };
        let run = Run { entry, events: vec![Arc::new(event)] };
        let permit = Arc::clone(&shared.permits).try_acquire_owned().expect("a permit");
        Arc::new(Batch::new(Seq(seq), Seq(seq), vec![run], vec![permit]))
    }
}
