//! The contract of a log: one test suite that runs on every storage.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use visnyk_loadtest::RedisServer;

use super::{
    BackendOptions, CloseError, DiskOptions, Hub, PollNow, PollRequest, Publication, PublishError,
    Published, StreamRequest, connections::ConnectionCursor,
};
use crate::{
    actors::{
        ConnectionFilter, DelayedStage, DiskStage, DurableStage, Front, LocalShard, SharedStage,
    },
    core::{IdempotencyKey, Limits, Subscription},
    model::{ChannelName, ChannelSelector, EnvelopeAnswers, NewEvent, Position, Seq, Start},
};

/// A storage under test: a hub, and a way to delay durability.
struct Storage {
    hub: Hub,
    stage: Stage,
    /// The seq before its first one.
    base: u64,
    /// Where a log on disk is.
    _directory: Option<TempDir>,
    /// The storage server of a shared log.
    _server: Option<RedisServer>,
}

/// Where its events become durable.
enum Stage {
    Memory,
    Delayed(DelayedStage),
    Disk,
    Redis,
}

/// Runs the suite on a storage.
macro_rules! contract {
    ($storage:ident, $start:expr, [$($promise:ident),* $(,)?]) => {
        mod $storage {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let storage: super::Storage = $start.await;
                    super::$promise(&storage).await;
                    storage.hub.shut_down().await;
                }
            )*
        }
    };
}

macro_rules! contract_of {
    ($storage:ident, $start:expr) => {
        contract!(
            $storage,
            $start,
            [
                events_have_one_order_and_an_append_is_atomic,
                a_reader_gets_what_is_behind_its_position_once,
                a_stream_skips_nothing,
                what_is_refused_is_never_seen,
                a_key_has_one_result_from_the_moment_it_is_sequenced,
                nothing_goes_behind_a_close,
                a_publisher_that_gives_up_leaves_its_events_in_the_order,
                what_is_not_durable_is_not_shown,
            ]
        );
    };
}

contract_of!(memory, super::Storage::memory());
contract_of!(delayed, super::Storage::delayed());
contract_of!(disk, super::Storage::disk());
contract_of!(disk_beyond_memory, super::Storage::disk_beyond_memory());
contract_of!(redis, super::Storage::redis());

impl Storage {
    async fn memory() -> Self {
        let hub = Hub::builder().shards(1).start().await.expect("it starts");
        Self::of(hub, Stage::Memory)
    }

    async fn delayed() -> Self {
        let stage = DelayedStage::default();
        let durable = DurableStage::Delayed(stage.clone());
        let hub = Hub::builder().shards(1).start_with(Some(durable)).await.expect("it starts");
        Self::of(hub, Stage::Delayed(stage))
    }

    async fn disk() -> Self {
        Self::on_disk(Limits::default()).await
    }

    /// Hardly an event stays in memory.
    async fn disk_beyond_memory() -> Self {
        let mut limits = Limits::default();
        limits.history.total_bytes_max = 1_000;
        Self::on_disk(limits).await
    }

    async fn on_disk(limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = DiskOptions::new(directory.path());
        let hub = Hub::builder().shards(1).limits(limits).disk(options);
        let hub = hub.start().await.expect("it starts");
        Self { _directory: Some(directory), ..Self::of(hub, Stage::Disk) }
    }

    async fn redis() -> Self {
        let server = RedisServer::start(&[]);
        let options = BackendOptions::new(server.url().parse().expect("an address"));
        let hub = Hub::builder().shards(1).backend(options).start().await.expect("it starts");
        Self { _server: Some(server), ..Self::of(hub, Stage::Redis) }
    }

    fn of(hub: Hub, stage: Stage) -> Self {
        let base = hub.head().0;
        Self { hub, stage, base, _directory: None, _server: None }
    }

    /// The newest seq that readers see, counted from the start.
    fn head(&self) -> Seq {
        self.counted(self.hub.head())
    }

    /// A seq counted from the start.
    fn counted(&self, seq: Seq) -> Seq {
        Seq(seq.0 - self.base)
    }

    fn shared_stage(&self) -> &SharedStage {
        self.hub.0.log.shared().expect("it is shared")
    }

    /// Whether events are durable as soon as they have their seqs.
    fn is_immediate(&self) -> bool {
        matches!(self.stage, Stage::Memory)
    }

    fn disk_stage(&self) -> &DiskStage {
        match self.hub.0.log.durable() {
            DurableStage::Disk(stage) => stage,
            _ => unreachable!("it is on disk"),
        }
    }

    /// Keeps events from becoming durable, if the storage can delay that.
    fn hold(&self) {
        match &self.stage {
            Stage::Memory => {}
            Stage::Delayed(stage) => stage.hold(),
            Stage::Disk => self.disk_stage().hold(true),
            Stage::Redis => self.shared_stage().hold(true),
        }
    }

    fn release(&self) {
        match &self.stage {
            Stage::Memory => {}
            Stage::Delayed(stage) => stage.release(),
            Stage::Disk => self.disk_stage().hold(false),
            Stage::Redis => self.shared_stage().hold(false),
        }
    }

    /// Publishes in a task, and waits until the events have their seqs. Then they are shown
    /// already, or wait to become durable.
    async fn sequence(
        &self,
        publication: Publication,
        commits: usize,
    ) -> JoinHandle<Result<Published, PublishError>> {
        let hub = self.hub.clone();
        let publishing = tokio::spawn(async move { hub.publish(publication).await });
        self.has_sequenced(commits, || publishing.is_finished()).await;
        publishing
    }

    async fn has_sequenced(&self, commits: usize, is_shown: impl Fn() -> bool) {
        let is_sequenced = || match &self.stage {
            Stage::Memory => is_shown(),
            Stage::Delayed(stage) => stage.queued() >= commits,
            Stage::Disk => self.disk_stage().queued() >= commits,
            Stage::Redis => self.shared_stage().queued() >= commits,
        };
        while !is_sequenced() {
            tokio::task::yield_now().await;
        }
    }

    /// All events after a position, read by polls of all channels, and the position at the end.
    async fn read(&self, mut start: Start) -> (Vec<(Seq, String)>, Position) {
        let mut events = Vec::new();
        loop {
            let request = PollRequest {
                subscription: everything(),
                start,
                encoding: &EnvelopeAnswers,
                wait: Duration::ZERO,
                limit: 7,
                holder: None,
                client: None,
            };
            match self.hub.poll_now(&request).await.expect("an answer") {
                PollNow::Answer(answer) => {
                    assert_eq!(answer.gap, None);
                    let read = answer.events.iter();
                    let read =
                        read.map(|event| (self.counted(event.seq), event.data().into_owned()));
                    events.extend(read);
                    start = Start::At(answer.position);
                }
                PollNow::Wait(wait) => return (events, wait.position),
            }
        }
    }

    async fn all(&self) -> Vec<(Seq, String)> {
        self.read(Start::Earliest).await.0
    }
}

async fn events_have_one_order_and_an_append_is_atomic(storage: &Storage) {
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let hub = storage.hub.clone();
        tokio::spawn(async move {
            let mut acknowledged: Vec<(Published, Vec<String>)> = Vec::new();
            for n in 0..PUBLISHES {
                let events: Vec<_> = (0..=n % 3)
                    .map(|i| (name(&format!("c/{}", i % 2)), format!("{publisher}.{n}.{i}")))
                    .collect();
                let data: Vec<String> = events.iter().map(|(_, data)| data.clone()).collect();
                let events = events.into_iter();
                let events = events.map(|(name, data)| (name, NewEvent::message(data))).collect();
                let publication = Publication { events, ..Publication::default() };
                let published = hub.publish(publication).await.expect("published");
                if let Some((before, _)) = acknowledged.last() {
                    assert!(before.last.seq < published.first.seq, "acknowledged before");
                }
                acknowledged.push((published, data));
            }
            acknowledged
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut expected = BTreeMap::new();
    for publisher in publishers {
        for (published, data) in publisher.await.expect("it ends") {
            for (seq, data) in (published.first.seq.0..=published.last.seq.0).zip(&data) {
                let seq = storage.counted(Seq(seq));
                let before = expected.insert(seq, data.clone());
                assert_eq!(before, None, "a seq means one event");
            }
            assert_eq!(published.events, data.len());
        }
    }
    assert_eq!(storage.all().await, expected.into_iter().collect::<Vec<_>>());
}

async fn a_reader_gets_what_is_behind_its_position_once(storage: &Storage) {
    let publisher = {
        let hub = storage.hub.clone();
        tokio::spawn(async move {
            for n in 1..=EVENTS {
                hub.publish(message("a", &n.to_string())).await.expect("published");
            }
        })
    };
    let (mut read, mut at) = (Vec::new(), Start::Earliest);
    while read.len() < EVENTS {
        let (events, position) = storage.read(at).await;
        assert!(events.iter().all(|(seq, _)| *seq <= storage.counted(position.seq)));
        read.extend(events);
        at = Start::At(position);
    }
    publisher.await.expect("it ends");
    let expected: Vec<_> = (1..=EVENTS).map(|n| (Seq(n as u64), n.to_string())).collect();
    assert_eq!(read, expected);
}

async fn a_stream_skips_nothing(storage: &Storage) {
    let mut request = StreamRequest::new(everything());
    request.start = Start::Earliest;
    let mut body = storage.hub.stream(request).await.expect("a stream");
    let publisher = {
        let hub = storage.hub.clone();
        tokio::spawn(async move {
            for n in 1..=EVENTS {
                hub.publish(message("a", &format!("<{n}>"))).await.expect("published");
            }
        })
    };
    let mut text = String::new();
    while !text.contains(&format!("<{EVENTS}>")) {
        let frame = http_body_util::BodyExt::frame(&mut body).await.expect("it goes on");
        let bytes = frame.expect("no error").into_data().expect("data");
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    publisher.await.expect("it ends");
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: <")).collect();
    let expected: Vec<String> = (1..=EVENTS).map(|n| format!("{n}>")).collect();
    assert_eq!(data, expected);
}

async fn what_is_refused_is_never_seen(storage: &Storage) {
    let hub = &storage.hub;
    hub.publish(message("closed", "1")).await.expect("published");
    hub.close_channel(&name("closed")).await.expect("closed");
    let key = key("k", "2");
    hub.publish(Publication { key: Some(key), ..message("a", "2") }).await.expect("published");

    let mut batch = message("a", "refused with the other");
    batch.events.extend(message("closed", "refused").events);
    assert_eq!(hub.publish(batch).await, Err(PublishError::Closed(name("closed"))));
    let reused = Publication { key: Some(self::key("k", "3")), ..message("a", "refused") };
    assert_eq!(hub.publish(reused).await, Err(PublishError::KeyReused));
    hub.publish(message("a", "4")).await.expect("published");

    let data: Vec<String> = storage.all().await.into_iter().map(|(_, data)| data).collect();
    assert!(!data.iter().any(|data| data.contains("refused")), "{data:?}");
    assert_eq!(storage.head(), Seq(data.len() as u64), "nothing else has a seq");
}

async fn a_key_has_one_result_from_the_moment_it_is_sequenced(storage: &Storage) {
    let publication = || Publication { key: Some(key("k", "1")), ..message("a", "1") };
    storage.hold();
    let first = storage.sequence(publication(), 1).await;
    let again = storage.sequence(publication(), 2).await;
    let other = Publication { key: Some(key("k", "2")), ..message("a", "2") };
    let other = storage.sequence(other, 3).await;
    let is_answered = [&first, &again, &other].map(JoinHandle::is_finished);
    assert_eq!(is_answered, [storage.is_immediate(); 3], "not before it is durable");
    storage.release();
    let first = first.await.expect("it ends").expect("published");
    let again = again.await.expect("it ends").expect("the same");
    assert_eq!(again, Published { replayed: true, ..first });
    assert_eq!(other.await.expect("it ends"), Err(PublishError::KeyReused));
    assert_eq!(storage.all().await, [(Seq(1), "1".to_owned())]);
}

async fn nothing_goes_behind_a_close(storage: &Storage) {
    let hub = &storage.hub;
    hub.publish(message("a", "1")).await.expect("published");
    storage.hold();
    let closing = {
        let hub = hub.clone();
        tokio::spawn(async move { hub.close_channel(&name("a")).await })
    };
    storage.has_sequenced(1, || closing.is_finished()).await;
    let behind = storage.sequence(message("a", "2"), 2).await;
    let is_closed = hub.channel(&name("a")).expect("it is there").closed;
    assert_eq!(is_closed, storage.is_immediate(), "readers see it when it is durable");
    assert_eq!(behind.is_finished(), storage.is_immediate(), "the refusal rests on it");
    storage.release();
    let closed = closing.await.expect("it ends").expect("closed");
    assert_eq!(storage.counted(closed.last.seq), Seq(2));
    assert_eq!(behind.await.expect("it ends"), Err(PublishError::Closed(name("a"))));
    assert!(hub.channel(&name("a")).expect("it is there").closed);
    let again = hub.close_channel(&name("a")).await;
    assert_eq!(again, Err(CloseError::Publish(PublishError::Closed(name("a")))));
    assert_eq!(storage.head(), Seq(2));
}

async fn a_publisher_that_gives_up_leaves_its_events_in_the_order(storage: &Storage) {
    // One gives up while it lets others submit, one while it waits for its answer.
    storage.hold();
    for (n, data) in ["1", "2"].iter().enumerate() {
        let mut publish = pin!(storage.hub.publish(message("a", data)));
        for _ in 0..=n {
            let is_pending = publish.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(is_pending.is_pending() || storage.is_immediate());
            if is_pending.is_ready() {
                break;
            }
        }
    }
    storage.release();
    storage.hub.publish(message("a", "3")).await.expect("published");
    let expected = ["1", "2", "3"].iter().zip(1..).map(|(data, seq)| (Seq(seq), (*data).into()));
    assert_eq!(storage.all().await, expected.collect::<Vec<(Seq, String)>>());
}

async fn what_is_not_durable_is_not_shown(storage: &Storage) {
    let hub = &storage.hub;
    let first = hub.publish(message("a", "1")).await.expect("published").last;
    storage.hold();
    let publishing = storage.sequence(message("a", "2"), 1).await;
    let seen = if storage.is_immediate() { 2 } else { 1 };
    assert_eq!(storage.head(), Seq(seen));
    assert_eq!(storage.all().await.len() as u64, seen);
    assert_eq!(storage.counted(storage.read(Start::At(first)).await.1.seq), Seq(seen));
    let channel = hub.channel(&name("a")).expect("it is there");
    assert_eq!(
        (channel.events_retained, channel.last_id.map(|at| storage.counted(at.seq).0)),
        (seen, Some(seen))
    );
    storage.release();
    publishing.await.expect("it ends").expect("published");
    assert_eq!(storage.head(), Seq(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_serves_its_clients_while_a_publish_from_its_thread_waits() {
    let storage = Storage::delayed().await;
    let hub = &storage.hub;
    storage.hold();
    let (answers, mut answered) = mpsc::channel(PUBLISHES);
    hub.serve(Arc::new(PublishingFront { hub: hub.clone(), answers }));
    storage.has_sequenced(1, || unreachable!("it is held")).await;
    // The only shard takes a stream on, and is asked about it.
    let stream = StreamRequest::channel("a").expect("a channel");
    let mut body = hub.stream(stream).await.expect("a stream");
    let _first_block = http_body_util::BodyExt::frame(&mut body).await.expect("it begins");
    let page =
        hub.connections(&ConnectionFilter::default(), ConnectionCursor::default(), 9, 9).await;
    assert_eq!((page.connections.len(), page.unanswered), (1, vec![]));
    assert!(answered.try_recv().is_err(), "no publish is answered");
    storage.release();
    for _ in 0..PUBLISHES {
        answered.recv().await.expect("an answer").expect("published");
    }
    hub.shut_down().await;
}

/// Publishes on a shard's thread, as requests do.
struct PublishingFront {
    hub: Hub,
    answers: mpsc::Sender<Result<Published, PublishError>>,
}

impl Front for PublishingFront {
    fn serve(&self, _: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
        for n in 0..PUBLISHES {
            let (hub, answers) = (self.hub.clone(), self.answers.clone());
            tokio::task::spawn_local(async move {
                let answer = hub.publish(message("a", &n.to_string())).await;
                answers.try_send(answer).expect("there is room for each");
            });
        }
        Box::pin(std::future::pending())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_outcomes_are_unknown_and_nothing_is_shown_any_more() {
    let storage = Storage::delayed().await;
    let hub = &storage.hub;
    let Stage::Delayed(stage) = &storage.stage else { unreachable!("it is delayed") };
    hub.publish(message("a", "1")).await.expect("published");
    stage.hold();
    stage.fail();
    let unknown = storage.sequence(message("a", "2"), 1).await;
    let behind = storage.sequence(message("a", "3"), 2).await;
    stage.release();
    for publishing in [unknown, behind] {
        assert_eq!(publishing.await.expect("it ends"), Err(PublishError::Unknown));
    }
    let why = timeout(Duration::from_secs(10), hub.failed()).await.expect("it fails");
    assert!(why.contains("the log failed"), "{why}");
    assert_eq!(hub.publish(message("a", "4")).await, Err(PublishError::GoingDown));
    assert_eq!(storage.all().await, [(Seq(1), "1".to_owned())]);
    assert_eq!(hub.head(), Seq(1));
    hub.shut_down().await;
}

/// Between the failure and the end of the process, some milliseconds, publishers retry. A power cut
/// in a file system of the tests found that they got a 201 for what was never written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_write_no_answer_rests_on_what_was_not_written() {
    let storage = Storage::disk().await;
    let hub = &storage.hub;
    let publication = || Publication { key: Some(key("k", "1")), ..message("a", "1") };
    storage.hold();
    let publishing = storage.sequence(publication(), 1).await;
    let closing = {
        let hub = hub.clone();
        tokio::spawn(async move { hub.close_channel(&name("a")).await })
    };
    storage.has_sequenced(2, || closing.is_finished()).await;
    storage.disk_stage().stop();
    assert_eq!(publishing.await.expect("it ends"), Err(PublishError::Unknown));
    assert_eq!(closing.await.expect("it ends"), Err(CloseError::Publish(PublishError::Unknown)));
    assert_eq!(hub.publish(publication()).await, Err(PublishError::Unknown), "the key is known");
    let other = Publication { key: Some(key("k", "2")), ..message("a", "2") };
    assert_eq!(hub.publish(other).await, Err(PublishError::Unknown), "so is its fingerprint");
    let behind = hub.publish(message("a", "3")).await;
    assert_eq!(behind, Err(PublishError::Unknown), "the channel is being closed");
    assert!(storage.all().await.is_empty());
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("a name")
}

fn message(channel: &str, data: &str) -> Publication {
    Publication::one(name(channel), NewEvent::message(data))
}

fn key(scope: &str, sent: &str) -> IdempotencyKey {
    IdempotencyKey::new(&[scope.as_bytes()], &[sent.as_bytes()])
}

fn everything() -> Subscription {
    let pattern = ChannelSelector::parse("**").expect("a pattern");
    Subscription::new([pattern], [], 1).expect("a subscription")
}

const PUBLISHERS: usize = 4;
const PUBLISHES: usize = 30;
const EVENTS: usize = 200;
