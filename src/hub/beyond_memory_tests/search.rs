//! What searches for last events on disk may cost, alone and together.

use super::{
    last::{answered, begun, last, publish_one, typed},
    *,
};
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

/// The value of a metric without labels.
fn metric(hub: &Hub, name: &str) -> u64 {
    let metrics = hub.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect("such a metric").parse().expect("a number")
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_ends_at_its_limit_of_bytes_and_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let limit = 20_000;
    let limits = ReadLimits { search_bytes_max: limit, ..ReadLimits::default() };
    let hub = start_on_disk(small_reads(directory.path(), limits)).await;
    publish_one(&hub, "a", 1, true).await;
    for n in 0..600 {
        publish_one(&hub, "a", 1_000 + n, false).await;
    }
    publish_one(&hub, "a", 2, true).await;
    for n in 0..20 {
        publish_one(&hub, "a", 2_000 + n, false).await;
    }
    let rare = || typed(&["a"], &["rare"]);
    // It is enough for the newest, so nothing is missing.
    assert_eq!(answered(&hub, rare(), last(1)).await, numbers([2]));
    assert_eq!(metric(&hub, "visnyk_disk_searches_limited_total"), 0);
    let before = metric(&hub, "visnyk_disk_search_bytes_total");
    let request = PollRequest { subscription: rare(), ..poll(&["a"], last(5)) };
    let answer = hub.poll_now(&request).await.expect("an answer");
    let PollNow::Answer(answer) = answer else { panic!("there are events") };
    let found: Vec<_> = answer.events.iter().map(|event| event.data().parse().ok()).collect();
    assert_eq!(found, numbers([2]));
    let gap = answer.gap.expect("it has not looked at all");
    assert_eq!((gap.reason, &*gap.requested), (GapReason::SearchLimit, "last=5"));
    let read = metric(&hub, "visnyk_disk_search_bytes_total") - before;
    assert!((limit..limit + 4_096).contains(&read), "{read}");
    // A stream: the gap, what was found, and what is live.
    let (mut stream, mut received) = begun(&hub, rare(), last(5), 2).await;
    assert_eq!(received.found, [None, Some(2)]);
    publish_one(&hub, "a", 3, true).await;
    while received.found.len() < 3 {
        timeout(PATIENCE, received.take(&mut stream)).await.expect("it goes on");
    }
    assert_eq!(received.found, [None, Some(2), Some(3)]);
    // Nothing is found at all.
    let none = typed(&["a"], &["no-such-type"]);
    let (_, received) = begun(&hub, none.clone(), last(1), 1).await;
    assert_eq!(received.found, [None]);
    let request = PollRequest { subscription: none, ..poll(&["a"], last(1)) };
    let answer = hub.poll_now(&request).await.expect("an answer");
    let PollNow::Answer(answer) = answer else { panic!("it has not looked at all") };
    assert_eq!(answer.gap.map(|gap| gap.reason), Some(GapReason::SearchLimit));
    assert!(answer.events.is_empty() && answer.position.seq == hub.0.store.head());
    assert!(hub.metrics().contains("visnyk_gaps_total{reason=\"search_limit\"} 4"));
    assert_eq!(metric(&hub, "visnyk_disk_searches_limited_total"), 4);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_may_read_all_there_is_is_not_cut() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start_on_disk(small_reads(directory.path(), ReadLimits::default())).await;
    publish_one(&hub, "a", 1, true).await;
    for n in 0..600 {
        publish_one(&hub, "a", 1_000 + n, false).await;
    }
    let rare = typed(&["a"], &["rare"]);
    assert_eq!(answered(&hub, rare.clone(), last(5)).await, numbers([1]), "without a gap");
    let with_indexes = metric(&hub, "visnyk_disk_search_bytes_total");
    hub.shut_down().await;
    drop(hub);
    let without_indexes = || {
        let mut segments_bytes = 0;
        for file in std::fs::read_dir(directory.path()).expect("a directory") {
            let file = file.expect("a file");
            match file.path().extension().and_then(|extension| extension.to_str()) {
                Some("index") => std::fs::remove_file(file.path()).expect("it goes"),
                Some("log") => segments_bytes += file.metadata().expect("its length").len(),
                _ => {}
            }
        }
        segments_bytes
    };
    // For an index that is missing the whole segment is read.
    let all = with_indexes + without_indexes();
    for (search_bytes_max, expected) in [(all, Some(1)), (with_indexes, None)] {
        without_indexes();
        let limits = ReadLimits { search_bytes_max, ..ReadLimits::default() };
        let hub = start_on_disk(small_reads(directory.path(), limits)).await;
        let (_, received) = begun(&hub, rare.clone(), last(5), 1).await;
        assert_eq!(received.found, [expected], "{search_bytes_max} of {all}");
        hub.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_searches_at_a_time_are_one_and_the_client_that_began_it_may_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start_on_disk(small_reads(directory.path(), ReadLimits::default())).await;
    publish(&hub, (0..5).map(|n| ("a", n))).await;
    publish(&hub, (0..200).map(|n| ("b", 1_000 + n))).await;
    let reads = reads(&hub);
    reads.hold(true);
    let begins = open(&hub, &["a"], last(2)).await;
    until(|| reads.waiting() == 1).await;
    let mut joining = Vec::new();
    for _ in 0..20 {
        joining.push(open(&hub, &["a"], last(2)).await);
    }
    until(|| metric(&hub, "visnyk_disk_searches_shared_total") == 20).await;
    let polling = tokio::spawn({
        let hub = hub.clone();
        async move { hub.poll_now(&poll(&["a"], last(2))).await }
    });
    until(|| metric(&hub, "visnyk_disk_searches_shared_total") == 21).await;
    assert_eq!(reads.waiting(), 1);
    // These look for something else.
    let others = [
        (open(&hub, &["a"], last(3)).await, numbers([2, 3, 4])),
        (open(&hub, &["a/**"], last(2)).await, numbers([3, 4])),
        (open(&hub, &["a", "b"], last(1)).await, numbers([4, 1_199])),
    ];
    until(|| reads.waiting() == 4).await;
    drop(begins);
    // It is shown to those that have joined before and after.
    publish(&hub, [("a", 5)]).await;
    joining.push(open(&hub, &["a"], last(2)).await);
    until(|| metric(&hub, "visnyk_disk_searches_shared_total") == 22).await;
    reads.hold(false);
    let answer = polling.await.expect("it does not panic").expect("an answer");
    let PollNow::Answer(answer) = answer else { panic!("there are events") };
    let found: Vec<Option<u64>> =
        answer.events.iter().map(|event| event.data().parse().ok()).collect();
    assert_eq!(found[..2], numbers([3, 4]));
    for mut stream in joining {
        let mut received = Received::default();
        while received.found.len() < 3 {
            timeout(PATIENCE, received.take(&mut stream)).await.expect("all of it");
        }
        assert_eq!(received.found, numbers([3, 4, 5]));
    }
    for (mut stream, expected) in others {
        let mut received = Received::default();
        while received.found.len() < expected.len() {
            timeout(PATIENCE, received.take(&mut stream)).await.expect("all of it");
        }
        assert_eq!(received.found[..expected.len()], expected);
    }
    // One that nothing waits for any more is not made, and takes no others.
    reads.hold(true);
    let shared = metric(&hub, "visnyk_disk_searches_shared_total");
    let gone = open(&hub, &["a"], last(4)).await;
    until(|| reads.waiting() == 1).await;
    drop(gone);
    reads.hold(false);
    until(|| reads.waiting() == 0).await;
    let (_, received) = begun(&hub, subscription(&["a"]), last(4), 4).await;
    assert_eq!(received.found, numbers([2, 3, 4, 5]));
    assert_eq!(metric(&hub, "visnyk_disk_searches_shared_total"), shared);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_wait_in_turn_for_memory_and_a_client_that_goes_gives_up_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    // One search at a time.
    let limits = ReadLimits { search_memory_bytes_max: 1, ..ReadLimits::default() };
    let hub = start_on_disk(small_reads(directory.path(), limits)).await;
    for channel in ["a", "b", "c", "d"] {
        publish(&hub, (0..5).map(|n| (channel, n))).await;
    }
    publish(&hub, (0..50).map(|n| ("x", n))).await;
    let reads = reads(&hub);
    let memory = hub.0.store.search_memory().expect("it is limited");
    reads.hold(true);
    let mut first = open(&hub, &["a"], last(2)).await;
    until(|| reads.waiting() == 1).await;
    assert_eq!(memory.used(), 1);
    let mut second = open(&hub, &["b"], last(2)).await;
    until(|| metric(&hub, "visnyk_disk_searches_waiting") == 1).await;
    let gone = open(&hub, &["c"], last(2)).await;
    until(|| metric(&hub, "visnyk_disk_searches_waiting") == 2).await;
    let mut fourth = open(&hub, &["d/**", "d"], last(2)).await;
    until(|| metric(&hub, "visnyk_disk_searches_waiting") == 3).await;
    // A poll waits as long as it may search.
    let refused = hub.poll_now(&poll(&["c"], last(2))).await;
    assert_eq!(refused.map(drop), Err(SubscribeError::HistoryBusy));
    drop(gone);
    until(|| metric(&hub, "visnyk_disk_searches_waiting") == 2).await;
    assert_eq!(reads.waiting(), 1, "they hold nothing");
    // What is in memory goes on.
    let (_, received) = begun(&hub, subscription(&["x"]), Start::Earliest, 0).await;
    assert_eq!(received.found, numbers([]));
    reads.hold(false);
    for stream in [&mut first, &mut second, &mut fourth] {
        let mut received = Received::default();
        while received.found.len() < 2 {
            timeout(PATIENCE, received.take(stream)).await.expect("all of it");
        }
        assert_eq!(received.found, numbers([3, 4]));
    }
    until(|| memory.used() == 0).await;
    assert_eq!(metric(&hub, "visnyk_disk_searches_waiting"), 0);
    hub.shut_down().await;
}
