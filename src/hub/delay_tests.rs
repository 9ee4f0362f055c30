//! Publishers wait for a shard that is late with their channel, and no others do.

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
use tokio::time::timeout;

use super::{Hub, Publication, PublishError, StreamRequest};
use crate::{
    actors::{Front, Input, LocalShard, Peer, SlotWaker},
    core::Limits,
};

/// Takes its event; two of them hold the shard's thread up until the test goes on.
#[derive(Debug)]
struct Reader {
    sends: Arc<AtomicUsize>,
    held_up: Arc<Barrier>,
    has_begun: bool,
}

impl Peer for Reader {
    fn try_write(&mut self, bytes: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        // The first block precedes the events.
        if std::mem::replace(&mut self.has_begun, true) {
            let number = self.sends.fetch_add(1, Ordering::Relaxed);
            if number == FIRST_HOLD || number == SECOND_HOLD {
                self.held_up.wait();
                self.held_up.wait();
            }
        }
        Ok(bytes.len())
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }
}

struct Readers {
    hub: Hub,
    held_up: Arc<Barrier>,
}

impl Front for Readers {
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
        let sends = Arc::<AtomicUsize>::default();
        for _ in 0..READERS {
            let stream = StreamRequest::channel("a").expect("a channel");
            let subscriber = self.hub.admit_stream(stream).expect("room");
            let (sends, held_up) = (Arc::clone(&sends), Arc::clone(&self.held_up));
            let reader = Reader { sends, held_up, has_begun: false };
            shard.attach_peer(subscriber, Box::new(reader), Bytes::new(), None);
        }
        let held_up = Arc::clone(&self.held_up);
        Box::pin(async move {
            held_up.wait();
            std::future::pending().await
        })
    }
}

fn publication(channel: &str, events: usize) -> Publication {
    let mut publication = Publication::message(channel, "x").expect("a name");
    publication.events = vec![publication.events[0].clone(); events];
    publication
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_waits_for_a_late_shard_and_is_refused_after_its_time() {
    let mut limits = Limits::default();
    (limits.publish.delay_max_ms, limits.publish.wait_ms) = (1, 20);
    let hub = Hub::builder().shards(1).limits(limits).start().await.expect("it starts");
    let held_up = Arc::new(Barrier::new(2));
    hub.serve(Arc::new(Readers { hub: hub.clone(), held_up: Arc::clone(&held_up) }));
    held_up.wait();

    hub.publish(publication("a", 1)).await.expect("published");
    held_up.wait();
    // The round has made some sends, and takes seconds. A whole round comes behind it.
    tokio::time::sleep(Duration::from_millis(10)).await;
    hub.publish(publication("a", 10_000)).await.expect("nothing waits yet");
    held_up.wait();
    held_up.wait();

    let refused = hub.publish(publication("a", 1)).await;
    assert_eq!(refused, Err(PublishError::Overloaded { wait_ms: 20 }));
    let mixed = Publication {
        events: [publication("b", 1).events, publication("a", 1).events].concat(),
        ..Publication::default()
    };
    let refused = hub.publish(mixed).await;
    assert_eq!(refused, Err(PublishError::Overloaded { wait_ms: 20 }));
    hub.publish(publication("b", 1)).await.expect("another channel does not wait");
    assert_eq!(hub.0.metrics.publishes_throttled.get(), 2);

    held_up.wait();
    let published = async { while hub.publish(publication("a", 1)).await.is_err() {} };
    timeout(Duration::from_secs(20), published).await.expect("the shard has sent what waited");
}

/// Several slices.
const READERS: usize = 300;
/// Early in the first slice of the first round, and in a later one.
const FIRST_HOLD: usize = 10;
const SECOND_HOLD: usize = 200;
