//! What searches for last events on disk may cost, alone and together.

use super::{last::last, *};
use crate::actors::LogReads;

fn small_reads(path: &Path, reads: ReadLimits) -> DiskOptions {
    let reads = ReadLimits { piece_bytes: 300, ..reads };
    DiskOptions { reads, segment_bytes: 64 << 10, ..DiskOptions::new(path) }
}

/// A hub whose history is on disk alone.
async fn start_on_disk(options: DiskOptions) -> Hub {
    let mut limits = small_memory();
    limits.history.total_bytes_max = 1_000;
    start_with(options, limits).await
}

fn reads(hub: &Hub) -> Arc<LogReads> {
    Arc::clone(hub.0.log_reads.as_ref().expect("a log on disk"))
}

async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_behind_the_last_events_leaves_those_that_exist_and_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = small_reads(directory.path(), ReadLimits::default());
    let hub = start_on_disk(DiskOptions { bytes_max: 256 << 10, ..options }).await;
    publish(&hub, [("a", 0), ("a", 1)]).await;
    // So that they are in another segment than what follows.
    publish(&hub, (0..1_600).map(|n| ("x", n))).await;
    publish(&hub, (0..10).map(|n| ("c", 100 + n))).await;
    let reads = reads(&hub);
    reads.hold_pieces(true);
    let mut readers = Vec::new();
    for selectors in [&["a", "c"][..], &["a/**", "c"]] {
        readers.push((selectors, open(&hub, selectors, last(2)).await));
    }
    // It is known where they start, and what is on disk is to be read.
    until(|| reads.waiting_pieces() == readers.len()).await;
    let polling = tokio::spawn({
        let hub = hub.clone();
        async move { hub.poll_now(&poll(&["a", "c"], last(2))).await }
    });
    until(|| reads.waiting_pieces() == readers.len() + 1).await;
    let mut n = 2_000;
    while hub.channel(&name("a")).is_some_and(|info| info.events_retained > 0) {
        publish(&hub, (n..n + 50).map(|n| ("x", n))).await;
        n += 50;
        assert!(n < 100_000, "the log removes nothing");
        sleep(Duration::from_millis(10)).await;
    }
    let retained = hub.channel(&name("c")).expect("it is there").events_retained;
    assert_eq!(retained, 10, "none of these is lost");
    reads.hold_pieces(false);
    let answer = polling.await.expect("it does not panic").expect("an answer");
    let PollNow::Answer(answer) = answer else { panic!("there are events") };
    let found: Vec<_> = answer.events.iter().map(|event| event.data().parse().ok()).collect();
    assert_eq!(found, numbers([108, 109]));
    assert_eq!(answer.gap.map(|gap| gap.reason), Some(GapReason::Evicted));
    publish(&hub, [("c", 200)]).await;
    for (selectors, mut stream) in readers {
        let mut received = Received::default();
        let all = async {
            while received.found.last() != Some(&Some(200)) {
                received.take(&mut stream).await;
            }
        };
        timeout(PATIENCE, all).await.expect("the rest");
        assert_eq!(received.found, [None, Some(108), Some(109), Some(200)], "{selectors:?}");
    }
    hub.shut_down().await;
}
