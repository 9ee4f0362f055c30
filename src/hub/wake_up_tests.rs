//! Everything but deadlines goes on without a look at the deadlines: they are a minute apart here,
//! and a wait that misses its wake-up lasts that long.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::{Hub, Publication, StreamRequest};
use crate::{
    actors::{Front, Input, LocalShard, Peer, SlotWaker},
    core::Limits,
    model::Start,
};

async fn hub(shards: usize) -> Hub {
    let mut limits = Limits::default();
    limits.connections.deadline_check_ms = 60_000;
    Hub::builder().limits(limits).shards(shards).start().await.expect("a hub")
}

async fn publish(hub: &Hub, channel: &str, data: String) {
    let publication = Publication::message(channel, data).expect("a name");
    hub.publish(publication).await.expect("published");
}

/// What all subscribers have received.
#[derive(Debug, Default)]
struct Seen {
    shards_held_up: AtomicUsize,
    deliveries: AtomicUsize,
    changed: Notify,
}

impl Seen {
    fn count(&self, count: &AtomicUsize) {
        count.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    async fn wait_for(&self, count: &AtomicUsize, wanted: usize) {
        let deadline = Instant::now() + PATIENCE;
        while count.load(Ordering::Relaxed) < wanted {
            let changed = timeout_at(deadline, self.changed.notified()).await;
            assert!(changed.is_ok(), "{self:?}, of {wanted}");
        }
    }
}

#[derive(Debug)]
struct Reader(Arc<Seen>);

impl Peer for Reader {
    fn try_write(&mut self, bytes: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        let events = bytes.windows(6).filter(|window| window == b"data: ").count();
        (0..events).for_each(|_| self.0.count(&self.0.deliveries));
        Ok(bytes.len())
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }
}

/// Subscribes to many channels, on each shard, and then holds its thread up.
struct Subscribers {
    hub: Hub,
    seen: Arc<Seen>,
    held_up: Arc<Barrier>,
}

impl Front for Subscribers {
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
        for number in 0..CHANNELS * SUBSCRIBERS {
            let channel = format!("c{}", number % CHANNELS);
            let stream = StreamRequest::channel(&channel).expect("a channel");
            let subscriber = self.hub.admit_stream(stream).expect("room");
            let reader = Box::new(Reader(Arc::clone(&self.seen)));
            shard.attach_peer(subscriber, reader, Bytes::new(), None);
        }
        let (seen, held_up) = (Arc::clone(&self.seen), Arc::clone(&self.held_up));
        Box::pin(async move {
            seen.count(&seen.shards_held_up);
            held_up.wait();
            std::future::pending().await
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_in_a_shards_ring_when_publishing_ends_is_delivered() {
    const SHARDS: usize = 2;
    let hub = hub(SHARDS).await;
    let seen = Arc::<Seen>::default();
    let held_up = Arc::new(Barrier::new(SHARDS + 1));
    let subscribers =
        Subscribers { hub: hub.clone(), seen: Arc::clone(&seen), held_up: Arc::clone(&held_up) };
    hub.serve(Arc::new(subscribers));
    seen.wait_for(&seen.shards_held_up, SHARDS).await;
    for number in 0..EVENTS {
        publish(&hub, &format!("c{}", number % CHANNELS), number.to_string()).await;
    }
    held_up.wait();
    seen.wait_for(&seen.deliveries, SHARDS * SUBSCRIBERS * EVENTS).await;
    let free = hub.0.log.permits().acquire_many(hub.limits().publish.in_flight_max);
    drop(timeout(PATIENCE, free).await.expect("no batch is held on to"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_of_many_reads_is_sent_to_the_end() {
    let hub = hub(1).await;
    for number in 0..HISTORY {
        publish(&hub, "a", number.to_string()).await;
    }
    for selector in ["a", "*", "**"] {
        let stream = StreamRequest::channel(selector).expect("a selector");
        let stream = StreamRequest { start: Start::Earliest, ..stream };
        let mut body = hub.stream(stream).await.expect("a stream");
        let mut events = 0;
        while events < HISTORY {
            let frame = timeout(PATIENCE, body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("{selector}: {events} events"));
            let bytes = frame.expect("a frame").expect("a frame").into_data().expect("data");
            events += bytes.windows(6).filter(|window| window == b"data: ").count();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_over_when_the_last_client_has_left() {
    let hub = hub(2).await;
    let stream = StreamRequest::channel("a").expect("a channel");
    let mut body = hub.stream(stream).await.expect("a stream");
    body.frame().await.expect("its first block").expect("its first block");
    let mut draining = tokio::spawn({
        let hub = hub.clone();
        async move { hub.drain(2 * PATIENCE).await }
    });
    while !hub.0.lifecycle.is_draining() {
        tokio::task::yield_now().await;
    }
    let early = timeout(Duration::from_millis(50), &mut draining).await;
    assert!(early.is_err(), "a client is left");
    drop(body);
    timeout(PATIENCE, draining).await.expect("no client is left").expect("it ends");
}

const PATIENCE: Duration = Duration::from_secs(20);
const CHANNELS: usize = 200;
/// So few that a channel has no lane: its events are sent when they are distributed.
const SUBSCRIBERS: usize = 2;
const EVENTS: usize = 2_000;
/// More than a connection is sent in one pass, and less than fills a body's pipe.
const HISTORY: usize = 100;
