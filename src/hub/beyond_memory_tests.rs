//! Histories that are larger than memory: their older events are read from the log on disk.

use std::{path::Path, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};

use super::{
    DiskOptions, Hub, PollNow, PollRequest, Publication, ReadLimits, StreamRequest, SubscribeError,
};
use crate::{
    core::{Limits, Subscription},
    model::{
        ChannelName, ChannelSelector, EnvelopeAnswers, GapReason, NewEvent, Position, Seq, Start,
    },
};

mod edges;
mod last;
mod model;
mod search;
mod transient;

/// A hub that keeps some events of a hundred bytes in memory.
async fn start(path: &Path, limits: Limits) -> Hub {
    let options = DiskOptions { segment_bytes: 64 << 10, ..DiskOptions::new(path) };
    start_with(options, limits).await
}

async fn start_with(options: DiskOptions, limits: Limits) -> Hub {
    let hub = Hub::builder().shards(1).limits(limits).disk(options);
    hub.start().await.expect("it starts")
}

fn small_memory() -> Limits {
    let mut limits = Limits::default();
    limits.history.events_max = 1_000_000;
    limits.history.bytes_max = 1 << 40;
    limits.history.total_bytes_max = 4_000;
    limits
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect("a name")
}

/// Publishes one batch; the data of each event is its number.
async fn publish(hub: &Hub, events: impl IntoIterator<Item = (&str, u64)>) -> Position {
    let events = events.into_iter();
    let events =
        events.map(|(channel, n)| (name(channel), NewEvent::message(format!("{n:050}")))).collect();
    let publication = Publication { events, ..Publication::default() };
    hub.publish(publication).await.expect("published").last
}

fn subscription(selectors: &[&str]) -> Subscription {
    let parse = |selector: &&str| ChannelSelector::parse(selector).expect("a selector");
    Subscription::new(selectors.iter().map(parse), [], 10).expect("a subscription")
}

fn poll(selectors: &[&str], start: Start) -> PollRequest {
    PollRequest {
        subscription: subscription(selectors),
        start,
        encoding: &EnvelopeAnswers,
        wait: Duration::ZERO,
        limit: 100,
        holder: None,
        client: None,
    }
}

/// All numbers that polls get from a position on; gaps as `None`.
async fn polled(hub: &Hub, selectors: &[&str], mut start: Start) -> Vec<Option<u64>> {
    let mut found = Vec::new();
    loop {
        let request = poll(selectors, start);
        let now = match hub.poll_now(&request).await {
            // The disk is slow.
            Err(SubscribeError::HistoryBusy) => {
                start = request.start;
                continue;
            }
            now => now.expect("an answer"),
        };
        match now {
            PollNow::Answer(answer) => {
                found.extend(answer.gap.map(|_| None));
                let numbers = answer.events.iter().map(|event| event.data().parse().ok());
                found.extend(numbers);
                start = Start::At(answer.position);
            }
            // A poll goes only so far.
            PollNow::Wait(wait) if wait.position.seq < hub.0.store.head() => {
                start = Start::At(wait.position);
            }
            PollNow::Wait(_) => return found,
        }
    }
}

/// The first numbers that a stream gets, with its gaps.
async fn streamed(hub: &Hub, selectors: &[&str], start: Start, count: usize) -> Vec<Option<u64>> {
    let mut stream = open(hub, selectors, start).await;
    let mut received = Received::default();
    let all = async {
        while received.found.len() < count {
            received.take(&mut stream).await;
        }
    };
    timeout(PATIENCE, all).await.expect("all of it");
    received.found
}

async fn open(hub: &Hub, selectors: &[&str], start: Start) -> crate::actors::EventBody {
    let mut request = StreamRequest::new(subscription(selectors));
    request.start = start;
    hub.stream(request).await.expect("a stream")
}

#[derive(Default)]
struct Received {
    found: Vec<Option<u64>>,
    rest: String,
    heartbeats: usize,
}

impl Received {
    async fn take(&mut self, stream: &mut crate::actors::EventBody) {
        let frame = stream.frame().await.expect("it goes on").expect("it does not fail");
        let bytes = frame.into_data().expect("data");
        self.rest.push_str(std::str::from_utf8(&bytes).expect("text"));
        while let Some((line, rest)) = self.rest.split_once('\n') {
            if line == "event: visnyk.gap" {
                self.found.push(None);
            } else if let Some(Ok(number)) = line.strip_prefix("data: ").map(str::parse) {
                self.found.push(Some(number));
            } else if line.starts_with(':') {
                self.heartbeats += 1;
            }
            self.rest = rest.to_owned();
        }
    }
}

fn numbers(range: impl IntoIterator<Item = u64>) -> Vec<Option<u64>> {
    range.into_iter().map(Some).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_ways_of_reading_get_what_has_left_memory_once_and_in_order_and_after_a_restart_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = start(directory.path(), small_memory()).await;
    let mut positions = Vec::new();
    for batch in 0..100_u64 {
        // `quiet` has an event in every tenth batch.
        let quiet = batch.is_multiple_of(10).then_some(("quiet", batch * 10));
        let busy = (1_u64..10)
            .map(|n| (if n.is_multiple_of(2) { "c/even" } else { "c/odd" }, batch * 10 + n));
        positions.push(publish(&hub, quiet.into_iter().chain(busy)).await);
    }
    let all = |n: &u64| !n.is_multiple_of(10) || n.is_multiple_of(100);
    let odd = |n: &u64| !n.is_multiple_of(2);
    for restart in [false, true, true] {
        if restart {
            hub.shut_down().await;
            drop(hub);
            hub = start(directory.path(), small_memory()).await;
        }
        assert!(hub.0.store.bytes() <= 4_000);
        let info = hub.channel(&name("c/odd")).expect("it is there");
        assert_eq!((info.events_retained, info.truncated), (500, false));
        assert_eq!(info.first_id.map(|id| id.seq), Some(Seq(2)));
        let from = |from: u64, wanted: fn(&u64) -> bool| numbers((from..1_000).filter(wanted));
        let quiet: fn(&u64) -> bool = |n| n.is_multiple_of(100);
        for (selectors, wanted) in [
            (&["c/odd"][..], odd as fn(&u64) -> bool),
            (&["quiet"], quiet),
            (&["c/odd", "c/even", "quiet"], all),
            (&["**"], all),
            (&["c/*", "quiet"], all),
            (&["q/**", "*/odd"], odd),
        ] {
            let expected = from(0, wanted);
            assert_eq!(polled(&hub, selectors, Start::Earliest).await, expected, "{selectors:?}");
            let count = expected.len();
            assert_eq!(streamed(&hub, selectors, Start::Earliest, count).await, expected);
            for batch in [0, 33, 98] {
                let expected = from(10 * (batch + 1), wanted);
                let start = Start::At(positions[batch as usize]);
                assert_eq!(polled(&hub, selectors, start.clone()).await, expected);
                assert_eq!(streamed(&hub, selectors, start, expected.len()).await, expected);
            }
        }
        assert_eq!(polled(&hub, &["other"], Start::Earliest).await, []);
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_moves_from_disk_to_memory_while_events_leave_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), small_memory()).await;
    for n in 0..500 {
        publish(&hub, [("a", n)]).await;
    }
    let publisher = hub.clone();
    let publishing = tokio::spawn(async move {
        for n in 500..3_000 {
            publish(&publisher, [("a", n)]).await;
        }
    });
    let (by_name, by_pattern) = tokio::join!(
        streamed(&hub, &["a"], Start::Earliest, 3_000),
        streamed(&hub, &["**"], Start::Earliest, 3_000),
    );
    assert_eq!(by_name, numbers(0..3_000));
    assert_eq!(by_pattern, numbers(0..3_000));
    publishing.await.expect("published");
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_neither_live_subscribers_nor_heartbeats() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = small_memory();
    limits.connections.heartbeat_s = 1;
    limits.connections.write_stall_s = 2;
    // Far less than is published meanwhile.
    limits.connections.lag_events_max = 10;
    let hub = start(directory.path(), limits).await;
    for n in 0..200 {
        publish(&hub, [("a", n)]).await;
    }
    let reads = Arc::clone(hub.0.log_reads.as_ref().expect("a log on disk"));
    reads.hold(true);
    let mut behind = open(&hub, &["a"], Start::Earliest).await;
    let mut pattern = open(&hub, &["**"], Start::Earliest).await;
    let mut idle = open(&hub, &["idle"], Start::Now).await;
    let mut live = open(&hub, &["a"], Start::Now).await;
    let [mut from_live, mut from_idle, mut from_behind, mut from_pattern] =
        std::array::from_fn(|_| Received::default());
    // A poll that does not wait waits for the disk as well, and holds up no other.
    let polling = tokio::spawn({
        let hub = hub.clone();
        async move { polled(&hub, &["a"], Start::Earliest).await }
    });
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    for n in 200..230 {
        let published = Instant::now();
        publish(&hub, [("a", n)]).await;
        while from_live.found.last() != Some(&Some(n)) {
            from_live.take(&mut live).await;
        }
        slowest = slowest.max(published.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(from_live.found, numbers(200..230));
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // Longer than a write may stall, and the readers are there still.
    assert!(started.elapsed() >= Duration::from_secs(3));
    for (stream, received, which) in [
        (&mut idle, &mut from_idle, "idle"),
        (&mut behind, &mut from_behind, "behind"),
        (&mut pattern, &mut from_pattern, "a pattern"),
    ] {
        // The first block, and heartbeats.
        let beats = async {
            while received.heartbeats < 3 {
                received.take(stream).await;
            }
        };
        let beats = timeout(PATIENCE, beats).await;
        assert!(beats.is_ok(), "{which}: {} {:?}", received.heartbeats, received.rest);
        assert_eq!(received.found, []);
    }
    assert!(!polling.is_finished());
    assert_eq!(reads.waiting(), 3);
    reads.hold(false);
    for (stream, received) in [(&mut behind, from_behind), (&mut pattern, from_pattern)] {
        let mut received = received;
        let all = async {
            while received.found.len() < 230 {
                received.take(stream).await;
            }
        };
        timeout(PATIENCE, all).await.expect("all of it");
        assert_eq!(received.found, numbers(0..230));
    }
    assert_eq!(polling.await.expect("answers"), numbers(0..230));
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_waits_for_a_disk_that_hangs_no_longer_than_it_may() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), small_memory()).await;
    let first = publish(&hub, [("a", 0)]).await;
    for n in 1..200 {
        publish(&hub, [("a", n)]).await;
    }
    let reads = Arc::clone(hub.0.log_reads.as_ref().expect("a log on disk"));
    reads.hold(true);
    // Within its wait, on a shard after a second, and refused if it does not wait for events.
    for (wait_ms, expected) in
        [(200, Ok(204)), (1_500, Ok(204)), (0, Err(SubscribeError::HistoryBusy))]
    {
        let mut request = poll(&["a"], Start::At(first));
        request.wait = Duration::from_millis(wait_ms);
        let answer = timeout(PATIENCE, hub.poll(request)).await.expect("it does not hang");
        assert_eq!(answer.map(|reply| reply.status), expected, "{wait_ms}");
    }
    // The shard reads on for a poll that has left the request's path, of a closed channel, too.
    hub.close_channel(&name("a")).await.expect("closed");
    let mut request = poll(&["a"], Start::At(first));
    request.wait = Duration::from_secs(60);
    let polling = tokio::spawn({
        let hub = hub.clone();
        async move { hub.poll(request).await }
    });
    while hub.counters().pollers.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    reads.hold(false);
    let reply = timeout(PATIENCE, polling).await.expect("in time").expect("it ends");
    let reply = reply.expect("an answer");
    assert_eq!((reply.status, reply.position.seq > first.seq), (200, true));
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_cancels_its_read_and_a_full_queue_refuses() {
    let directory = tempfile::tempdir().expect("a directory");
    let reads = ReadLimits { queue_max: 2, ..ReadLimits::default() };
    let options = DiskOptions { reads, ..DiskOptions::new(directory.path()) };
    let hub = start_with(options, small_memory()).await;
    for n in 0..200 {
        publish(&hub, [("a", n)]).await;
    }
    let reads = Arc::clone(hub.0.log_reads.as_ref().expect("a log on disk"));
    reads.hold(true);
    let first = open(&hub, &["a"], Start::Earliest).await;
    let second = open(&hub, &["a"], Start::Earliest).await;
    let wait_for = async |count: usize| {
        while reads.waiting() != count {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait_for(2)).await.expect("both wait");
    let refused = hub.poll_now(&poll(&["a"], Start::Earliest)).await;
    assert_eq!(refused.map(drop), Err(SubscribeError::HistoryBusy));
    // A stream over the bound ends, and is asked to come back.
    let mut third = open(&hub, &["a"], Start::Earliest).await;
    let end = timeout(PATIENCE, third.frame()).await;
    while let Some(frame) = timeout(PATIENCE, third.frame()).await.expect("it ends") {
        drop(frame);
    }
    drop(end);
    assert!(hub.metrics().contains(r#"connections_closed_total{reason="history_busy"} 1"#));
    drop((first, second));
    while hub.counters().streams.get() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // Those that were cancelled make room.
    let poll = poll(&["a"], Start::Earliest);
    let polling = hub.poll_now(&poll);
    reads.hold(false);
    let answer = timeout(PATIENCE, polling).await.expect("in time").expect("room again");
    assert!(matches!(answer, PollNow::Answer(answer) if answer.events.len() == 100));
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_the_log_removes_while_they_are_due_are_a_gap_and_never_silence() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = DiskOptions {
        segment_bytes: 64 << 10,
        bytes_max: 128 << 10,
        ..DiskOptions::new(directory.path())
    };
    let hub = start_with(options, small_memory()).await;
    let first = publish(&hub, [("a", 0)]).await;
    publish(&hub, [("b", 1)]).await;
    publish(&hub, (2..200).map(|n| ("a", n))).await;
    let reads = Arc::clone(hub.0.log_reads.as_ref().expect("a log on disk"));
    reads.hold(true);
    let mut readers = Vec::new();
    for selectors in [&["a"][..], &["**"], &["a", "b"]] {
        for start in [Start::Earliest, Start::At(first)] {
            let is_from_first = matches!(start, Start::At(_));
            readers.push((selectors, is_from_first, open(&hub, selectors, start).await));
        }
    }
    // Their reads wait while what they want goes.
    let mut n = 200;
    while hub.channel(&name("a")).expect("it is there").first_id.expect("events").seq < Seq(500) {
        publish(&hub, (n..n + 50).map(|n| ("a", n))).await;
        n += 50;
        assert!(n < 100_000, "the log removes nothing");
    }
    // Nothing more is removed from here on.
    sleep(Duration::from_millis(2_500)).await;
    let info = hub.channel(&name("a")).expect("it is there");
    let oldest = info.first_id.expect("events").seq.0 - 1;
    assert!(info.truncated);
    assert_eq!(info.events_retained, n - oldest);
    reads.hold(false);
    for (selectors, is_from_first, mut stream) in readers {
        let mut received = Received::default();
        let all = async {
            while received.found.last() != Some(&Some(n - 1)) {
                received.take(&mut stream).await;
            }
        };
        timeout(PATIENCE, all).await.expect("the rest");
        let expected: Vec<_> = [None].into_iter().chain(numbers(oldest..n)).collect();
        assert_eq!(received.found, expected, "{selectors:?} {is_from_first}");
    }
    let answer = hub.poll_now(&poll(&["**"], Start::At(first))).await.expect("an answer");
    let PollNow::Answer(answer) = answer else { panic!("there are events") };
    assert_eq!(answer.gap.map(|gap| gap.reason), Some(GapReason::Evicted));
    // Without a restart and with one.
    let retained = polled(&hub, &["a"], Start::Earliest).await;
    assert_eq!(retained, numbers(oldest..n));
    hub.shut_down().await;
    drop(hub);
    let hub = start(directory.path(), small_memory()).await;
    assert_eq!(polled(&hub, &["a"], Start::Earliest).await, retained);
    assert_eq!(polled(&hub, &["a"], Start::At(first)).await[0], None);
    // `b` has lost its event as well.
    assert_eq!(polled(&hub, &["b"], Start::At(first)).await, [None]);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_ends_its_readers_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = DiskOptions {
        reads: ReadLimits { cache_bytes_max: 0, ..ReadLimits::default() },
        ..DiskOptions::new(directory.path())
    };
    let hub = start_with(options, small_memory()).await;
    for n in 0..2_000 {
        publish(&hub, [("a", n)]).await;
    }
    let segment = directory.path().join("00000000000000000001.log");
    let file = std::fs::File::options().write(true).open(segment).expect("the segment");
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 500).expect("written");
    let refused = hub.poll_now(&poll(&["a"], Start::Earliest)).await;
    assert_eq!(refused.map(drop), Err(SubscribeError::HistoryUnreadable));
    let mut stream = open(&hub, &["**"], Start::Earliest).await;
    let end = async { while stream.frame().await.is_some() {} };
    timeout(PATIENCE, end).await.expect("it ends");
    let metrics = hub.metrics();
    assert!(metrics.contains(r#"connections_closed_total{reason="history_unreadable"} 1"#));
    assert!(metrics.contains("visnyk_disk_read_errors_total 2"), "{metrics}");
    // The rest of the log is as good as before.
    let last = publish(&hub, [("a", 2_000)]).await;
    let late = Start::At(Position { seq: Seq(1_500), ..last });
    assert_eq!(polled(&hub, &["a"], late).await, numbers(1_500..=2_000));
    hub.shut_down().await;
}

const PATIENCE: Duration = Duration::from_secs(30);
