//! How a shard's thread is divided while requests never end on it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Hub, Publication, StreamRequest};
use crate::actors::{Front, Input, LocalShard, Peer, SlotWaker};

/// What the tasks on a shard's thread have come to.
#[derive(Debug, Default)]
struct Seen {
    is_over: AtomicBool,
    /// How often the other tasks ran.
    others: AtomicUsize,
    attached: AtomicUsize,
    delivered: AtomicUsize,
    /// How often they had run at the first delivery, and at the last.
    at_first: AtomicUsize,
    at_last: AtomicUsize,
    changed: Notify,
}

#[derive(Debug)]
struct Reader {
    seen: Arc<Seen>,
    has_begun: bool,
}

impl Peer for Reader {
    fn try_write(&mut self, bytes: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        // The first block is not a delivery.
        if std::mem::replace(&mut self.has_begun, true) {
            let others = self.seen.others.load(Ordering::Relaxed);
            let before = self.seen.delivered.fetch_add(1, Ordering::Relaxed);
            if before == 0 {
                self.seen.at_first.store(others, Ordering::Relaxed);
            }
            self.seen.at_last.store(others, Ordering::Relaxed);
            self.seen.changed.notify_one();
        }
        Ok(bytes.len())
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }
}

struct Busy {
    hub: Hub,
    seen: Arc<Seen>,
}

impl Front for Busy {
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
        for _ in 0..READERS {
            let stream = StreamRequest::channel("a").expect("a channel");
            let subscriber = self.hub.admit_stream(stream).expect("room");
            let peer = Reader { seen: Arc::clone(&self.seen), has_begun: false };
            shard.attach_peer(subscriber, Box::new(peer), Bytes::new(), None);
            self.seen.attached.fetch_add(1, Ordering::Relaxed);
            self.seen.changed.notify_one();
        }
        for _ in 0..OTHERS {
            let seen = Arc::clone(&self.seen);
            tokio::task::spawn_local(async move {
                while !seen.is_over.load(Ordering::Relaxed) {
                    let begun = std::time::Instant::now();
                    while begun.elapsed() < Duration::from_millis(1) {}
                    seen.others.fetch_add(1, Ordering::Relaxed);
                    seen.changed.notify_one();
                    tokio::task::yield_now().await;
                }
            });
        }
        Box::pin(std::future::pending())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_that_never_end_delay_a_round_by_a_few_polls_only() {
    let hub = Hub::builder().shards(1).start().await.expect("a hub");
    let seen = Arc::<Seen>::default();
    hub.serve(Arc::new(Busy { hub: hub.clone(), seen: Arc::clone(&seen) }));
    let deadline = Instant::now() + Duration::from_secs(60);
    let wait_for = async |count: &AtomicUsize, at_least: usize| {
        while count.load(Ordering::Relaxed) < at_least {
            let changed = timeout_at(deadline, seen.changed.notified()).await;
            assert!(changed.is_ok(), "{seen:?}");
        }
    };
    wait_for(&seen.attached, READERS).await;
    // Long enough for the first blocks.
    wait_for(&seen.others, 3 * OTHERS).await;
    hub.publish(Publication::message("a", "x").expect("a name")).await.expect("published");
    wait_for(&seen.delivered, READERS).await;
    seen.is_over.store(true, Ordering::Relaxed);
    let meanwhile = seen.at_last.load(Ordering::Relaxed) - seen.at_first.load(Ordering::Relaxed);
    // A slice is three sends here: if all others ran between any two it would be 380.
    assert!(meanwhile <= 6 * OTHERS, "{meanwhile} polls of other tasks in one round");
}

const READERS: usize = 60;
const OTHERS: usize = 20;
