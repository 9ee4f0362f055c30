//! `limits.publish.gather_max_ms`: a shard that is busy all the time lets events gather, and no
//! longer once the load is over. Each subscriber has all events in order meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinSet;

use crate::wire::{Wire, get, hub, metric_is, publish};

const CHANNELS: usize = 8;
const SUBSCRIBERS: usize = 5;
/// Publishes that a connection sends before it reads their answers.
const PIPELINED: usize = 16;
const GATHERING: &str = "visnyk_shards_gathering";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_gather_while_a_shard_is_busy_and_all_of_them_come() {
    let hub = hub(&[("shards", "1")]).await;
    let mut subscribers = JoinSet::new();
    for number in 0..CHANNELS * SUBSCRIBERS {
        let mut stream = Wire::to(&hub).await;
        stream.send(get(&format!("/v1/channels/c{}/events", number % CHANNELS))).await;
        stream.stream_head().await;
        subscribers.spawn(async move {
            for expected in 0.. {
                let block = stream.block().await;
                if block.starts_with("data: end\n") {
                    return expected;
                }
                assert!(block.starts_with(&format!("data: {expected}\n")), "{expected}: {block}");
            }
            unreachable!()
        });
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut publishers = JoinSet::new();
    for number in 0..CHANNELS {
        let (channel, is_over) = (format!("c{number}"), Arc::clone(&is_over));
        let mut wire = Wire::to(&hub).await;
        publishers.spawn(async move {
            let mut next = 0;
            while !is_over.load(Ordering::Relaxed) {
                let batch = next..next + PIPELINED;
                wire.send(batch.map(|n| publish(&channel, &n.to_string())).collect::<String>())
                    .await;
                next += PIPELINED;
                for _ in 0..PIPELINED {
                    assert_eq!(wire.answer().await.status, 201);
                }
            }
            wire.send(publish(&channel, "end")).await;
            assert_eq!(wire.answer().await.status, 201);
            next
        });
    }
    metric_is(&hub, GATHERING, 1).await;
    is_over.store(true, Ordering::Relaxed);
    let published: usize = publishers.join_all().await.into_iter().sum();
    let received: usize = subscribers.join_all().await.into_iter().sum();
    assert_eq!(received, published * SUBSCRIBERS);
    metric_is(&hub, GATHERING, 0).await;
}
