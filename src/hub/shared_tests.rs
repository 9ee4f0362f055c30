//! Hubs on one server, held up at moments that no client can choose.

use std::{cell::Cell, future::pending, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
    task::block_in_place,
    time::{Instant, sleep, timeout},
};
use visnyk_loadtest::RedisServer;

use super::{BackendOptions, Fault, Hub, Publication, PublishError, StreamRequest, SubscribeError};
use crate::{
    actors::{Clock, CommitBudget, EventBody, Loader, Submission},
    backend::{EventStore, Registry},
    core::{IdempotencyKey, Limits},
    model::{ChannelName, Draft, Epoch, EventKind, NewEvent},
    redis::{RedisLog, RedisOptions},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_attaches_while_the_log_is_loaded_anew_skips_nothing() {
    let server = RedisServer::start(&[]);
    let (hub, other) = (hub_on(&server).await, hub_on(&server).await);
    publish(&hub, "before").await;
    let stage = hub.0.log.shared().expect("it is shared");
    let old = open(&hub).await;
    let epoch = hub.epoch();
    stage.hold_load(true);
    server.command(&["FLUSHALL"]);
    // It is ended, and the load waits.
    rest_of(old).await;
    assert_eq!(hub.epoch(), epoch, "positions of the new one would claim what is not loaded yet");
    assert!(hub.is_loading(), "it is not ready");
    // It was admitted before: while the log is loaded others wait.
    let stream = open(&hub).await;
    for n in 1..=3 {
        publish(&other, &format!("lost {n}")).await;
    }
    stage.hold_load(false);
    while hub.is_loading() || hub.head() != other.head() {
        sleep(Duration::from_millis(5)).await;
    }
    publish(&other, "next").await;
    let text = rest_of(stream).await;
    assert!(!text.contains("data:"), "it goes on behind events that it was not sent: {text}");
    hub.shut_down().await;
    other.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_end_however_many_a_shard_has() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server).await;
    let mut streams = Vec::new();
    for _ in 0..600 {
        streams.push(open(&hub).await);
    }
    server.command(&["FLUSHALL"]);
    for stream in streams {
        rest_of(stream).await;
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_loaded_though_other_hubs_publish_without_a_pause() {
    let server = RedisServer::start(&[]);
    let other = hub_on(&server).await;
    publish(&other, "first").await;
    let limits = Limits::default();
    let registry = Arc::new(Registry::new(&limits));
    let store = EventStore::new(Epoch::new(1, 1), u64::MAX, registry);
    let loader = Loader { store: Arc::new(store), clock: Clock::start(), closed_ms: 60_000 };
    let mut log = RedisLog::connect(&redis(&server)).await.expect("connected");
    let loaded = Cell::new(0);
    let load = loader.load(&mut log, None, |_| {
        loaded.set(loaded.get() + 1);
        assert!(loaded.get() < 50, "the load does not end");
        // So whatever is read next, there is something.
        block_in_place(|| Handle::current().block_on(publish(&other, "more")));
    });
    let fence = load.await.expect("loaded");
    assert!(fence.seq < other.head(), "the rest is the tail's");
    assert_eq!(loader.store.head(), fence.seq);
    other.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_whose_tombstone_has_expired_is_open_once_the_log_is_loaded() {
    let server = RedisServer::start(&[]);
    let other = hub_on(&server).await;
    publish(&other, "x").await;
    let closed = name("a");
    other.close_channel(&closed).await.expect("closed");
    sleep(Duration::from_millis(1_100)).await;
    for (tombstone_s, is_closed) in [(60, true), (1, false)] {
        let mut limits = Limits::default();
        limits.channels.tombstone_s = tombstone_s;
        let hub = Hub::builder().shards(1).limits(limits).backend(options(&server));
        let hub = hub.start().await.expect("it starts");
        assert_eq!(hub.channel(&closed).is_some_and(|info| info.closed), is_closed);
        hub.shut_down().await;
    }
    other.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_is_restarted_has_the_permits_of_its_predecessor() {
    let server = RedisServer::start(&[]);
    let (hub, other) = (hub_on(&server).await, hub_on(&server).await);
    let stage = hub.0.log.shared().expect("it is shared");
    // As if a shard had not come to the batches of the first bridge.
    let all = stage.all_show_permits().await;
    hub.plant_fault(Fault::Bridge);
    while !hub.metrics().contains("visnyk_restarts_total{reason=\"bridge\"} 1") {
        sleep(Duration::from_millis(1)).await;
    }
    let before = hub.head();
    publish(&other, "x").await;
    let shown = async {
        while hub.head() == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let mut shown = std::pin::pin!(shown);
    let is_early = timeout(Duration::from_millis(500), &mut shown).await;
    assert!(is_early.is_err(), "a shard's ring has no entry for another batch");
    drop(all);
    timeout(PATIENCE, shown).await.expect("it goes on");
    hub.shut_down().await;
    other.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_appended_over_a_connection_to_a_server_that_is_gone() {
    let server = RedisServer::start(&[]);
    let (address, hang) = proxy(server.address()).await;
    let mut options = options(&server);
    options.redis.address = format!("redis://{address}").parse().expect("an address");
    let hub = Hub::builder().shards(1).backend(options).start().await.expect("it starts");
    publish(&hub, "over the first connection").await;
    // Without a word, as by a loss of power; another server has its address in a moment.
    hang.send_modify(|round| *round += 1);
    let is_away = async |is_away| {
        while hub.is_backend_away() != is_away {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, is_away(true)).await.expect("it notices");
    timeout(PATIENCE, is_away(false)).await.expect("it follows again");
    let publication = Publication::one(name("a"), NewEvent::message("over the next"));
    hub.publish(publication).await.expect("published at once");
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_hands_over_no_more_than_its_budget() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server).await;
    let (log, stage) = (&hub.0.log, hub.0.log.shared().expect("it is shared"));
    stage.hold(true);
    for _ in 0..3 {
        let entry = hub.0.registry.directory().find_or_create(&name("a"), 0).expect("room");
        let half = CommitBudget::INLINE.cost_max * 1_024 / 2;
        let draft = Draft::new(&NewEvent::message("x".repeat(half)));
        let (kind, key, permits) = (EventKind::Published, None, Vec::new());
        log.submit_only(Submission {
            events: vec![(entry, draft)],
            kind,
            key,
            permits,
            trace: None,
        });
    }
    for (budget, expected) in [(CommitBudget::INLINE, (1, true)), (CommitBudget::ALL, (3, false))] {
        let mut committer = log.committer().lock();
        log.commit_within(&mut committer, budget);
        assert_eq!((stage.queued(), committer.has_deferred()), expected);
    }
    stage.hold(false);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_cannot_read_the_log_says_at_once_that_it_goes_down() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server).await;
    publish(&hub, "x").await;
    let next = format!("{}-0", hub.head().0 + 1);
    server.command(&["XADD", "{visnyk}:log", &next, "what", "no hub writes"]);
    let answer = || async {
        let began = Instant::now();
        let answer = hub.publish(Publication::one(name("a"), NewEvent::message("y"))).await;
        (answer.map(drop), began.elapsed() < Duration::from_secs(1))
    };
    let refused = async {
        // It may not have come to the entry yet. What is appended behind that is answered too.
        loop {
            let (answer, is_soon) = answer().await;
            assert!(is_soon, "{answer:?}");
            if answer == Err(PublishError::GoingDown) {
                break;
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("it comes to the entry");
    assert_eq!(answer().await, (Err(PublishError::GoingDown), true));
    // The log can be read again, but what was in it is not known.
    server.command(&["XDEL", "{visnyk}:log", &next]);
    hub.plant_fault(Fault::Bridge);
    while !hub.metrics().contains("visnyk_restarts_total{reason=\"bridge\"} 1") {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(answer().await, (Err(PublishError::GoingDown), true));
    let stream = hub.stream(StreamRequest::channel("a").expect("a channel")).await;
    assert_eq!(stream.map(drop), Err(SubscribeError::GoingDown));
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_and_refusals_are_counted_whether_or_not_the_log_moves() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server).await;
    let keyed = || Publication {
        key: Some(IdempotencyKey::new(&[b"key"], &[b"body"])),
        ..Publication::one(name("a"), NewEvent::message("x"))
    };
    hub.publish(keyed()).await.expect("published");
    hub.publish(keyed()).await.expect("repeated");
    hub.close_channel(&name("a")).await.expect("closed");
    publish_refused(&hub).await;
    for line in ["publishes_replayed_total 1", "publishes_refused_total{reason=\"closed\"} 1"] {
        assert!(hub.metrics().contains(line), "{line}: {}", hub.metrics());
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_that_expire_are_not_counted_as_queued() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server).await;
    let stage = hub.0.log.shared().expect("it is shared");
    stage.hold(true);
    let publication = Publication::one(name("a"), NewEvent::message("x"));
    assert_eq!(hub.publish(publication).await.map(drop), Err(PublishError::BackendAway));
    assert!(hub.metrics().contains("visnyk_backend_queued 0"), "{}", hub.metrics());
    stage.hold(false);
    hub.shut_down().await;
}

async fn publish_refused(hub: &Hub) {
    let publication = Publication::one(name("a"), NewEvent::message("x"));
    assert_eq!(hub.publish(publication).await.map(drop), Err(PublishError::Closed(name("a"))));
}

/// A proxy to a server. With each change of the number the connections that there are hang.
async fn proxy(server: SocketAddr) -> (SocketAddr, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (hang, hangs) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut hangs = hangs.clone();
            hangs.mark_unchanged();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.expect("connected");
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    Ok(()) = hangs.changed() => pending().await,
                }
            });
        }
    });
    (address, hang)
}

fn options(server: &RedisServer) -> BackendOptions {
    BackendOptions::new(server.url().parse().expect("an address"))
}

fn redis(server: &RedisServer) -> RedisOptions {
    options(server).redis
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("a name")
}

async fn hub_on(server: &RedisServer) -> Hub {
    Hub::builder().shards(1).backend(options(server)).start().await.expect("it starts")
}

async fn publish(hub: &Hub, data: &str) {
    loop {
        let event = NewEvent::message(data);
        match hub.publish(Publication::one(name("a"), event)).await {
            Ok(_) => return,
            // The log is loaded anew.
            Err(error) => assert_eq!(error, PublishError::BackendAway),
        }
    }
}

/// A stream from now on, without the wait of one that is not admitted yet.
async fn open(hub: &Hub) -> EventBody {
    let stream = StreamRequest::channel("a").expect("a channel");
    hub.open(hub.admit_stream(stream).expect("room")).await.expect("it is open")
}

/// What a stream sends until it ends.
async fn rest_of(mut stream: EventBody) -> String {
    let mut text = String::new();
    while let Some(frame) = timeout(PATIENCE, stream.frame()).await.expect("it ends") {
        if let Ok(data) = frame.expect("no error").into_data() {
            text += std::str::from_utf8(&data).expect("UTF-8");
        }
    }
    text
}

const PATIENCE: Duration = Duration::from_secs(10);
