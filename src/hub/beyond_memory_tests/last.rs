//! Subscriptions that start with the last events of their channels, which are on disk in part or
//! alone.

use proptest::prelude::*;

use super::*;
use crate::{
    backend::{LAST_EVENTS_MAX, SeqRange, StartRequest},
    core::{ChannelRule, NotInMemory},
    model::{ChannelPattern, EventType, LastEvents},
};

pub(super) fn last(each: u32) -> Start {
    Start::Last(LastEvents::new(each).expect("within its bounds"))
}

/// A hub with small pieces, so that a start takes many, whose channel `t` is transient.
async fn start(path: &Path, limits: Limits) -> Hub {
    let reads = ReadLimits { piece_bytes: 300, ..ReadLimits::default() };
    let options = DiskOptions { reads, segment_bytes: 64 << 10, ..DiskOptions::new(path) };
    let mut rule = ChannelRule::new(ChannelPattern::parse("t").expect("a pattern"));
    rule.durable = Some(false);
    let hub = Hub::builder().shards(1).limits(limits).disk(options);
    hub.channel_rules(vec![rule]).start().await.expect("it starts")
}

pub(super) fn typed(selectors: &[&str], types: &[&str]) -> Subscription {
    let selectors = selectors.iter().map(|it| ChannelSelector::parse(it).expect("a selector"));
    let types: Vec<_> = types.iter().map(|it| EventType::parse(it).expect("a type")).collect();
    Subscription::new(selectors, types, 10).expect("a subscription")
}

/// A stream that begins so, and its first numbers.
pub(super) async fn begun(
    hub: &Hub,
    subscription: Subscription,
    start: Start,
    count: usize,
) -> (crate::actors::EventBody, Received) {
    let mut request = StreamRequest::new(subscription);
    request.start = start;
    let mut stream = hub.stream(request).await.expect("a stream");
    let mut received = Received::default();
    let all = async {
        while received.found.len() < count {
            received.take(&mut stream).await;
        }
    };
    timeout(PATIENCE, all).await.expect("all of it");
    (stream, received)
}

/// What the answer of a poll that does not wait has.
pub(super) async fn answered(
    hub: &Hub,
    subscription: Subscription,
    start: Start,
) -> Vec<Option<u64>> {
    let request = PollRequest { subscription, ..poll(&["a"], start) };
    match hub.poll_now(&request).await.expect("an answer") {
        PollNow::Answer(answer) => {
            assert_eq!(answer.gap, None);
            answer.events.iter().map(|event| event.data().parse().ok()).collect()
        }
        PollNow::Wait(_) => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_events_are_found_on_disk_by_name_and_pattern_and_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = start(directory.path(), small_memory()).await;
    publish(&hub, [("rare", 0), ("c/quiet", 1), ("rare", 2)]).await;
    for batch in 0..20 {
        publish(&hub, (0..100).map(|n| ("c/busy", 1_000 + batch * 100 + n))).await;
    }
    publish(&hub, [("c/quiet", 9_000)]).await;
    for restarts in 0..3 {
        if restarts > 0 {
            hub.shut_down().await;
            drop(hub);
            hub = start(directory.path(), small_memory()).await;
        }
        let busy = |each: u64| 3_000 - each..3_000;
        for (selectors, each, expected) in [
            (&["rare"][..], 1, numbers([2])),
            (&["rare"], 2, numbers([0, 2])),
            (&["rare"], 9, numbers([0, 2])),
            (&["c/busy"], 12, numbers(busy(12))),
            (&["c/quiet"], 2, numbers([1, 9_000])),
            (&["rare", "c/quiet", "c/busy"], 1, numbers([2, 2_999, 9_000])),
            (&["c/*"], 3, numbers([1].into_iter().chain(busy(3)).chain([9_000]))),
            (&["**"], 2, numbers([0, 1, 2].into_iter().chain(busy(2)).chain([9_000]))),
            // As many as there may be of all channels: the newest.
            (&["**"], 1_000, numbers(busy(11).chain([9_000]))),
            (&["other"], 5, vec![]),
        ] {
            let answer = answered(&hub, subscription(selectors), last(each)).await;
            assert_eq!(answer, expected, "{selectors:?} {each}");
            let count = expected.len();
            let (_, received) = begun(&hub, subscription(selectors), last(each), count).await;
            assert_eq!(received.found, expected, "{selectors:?} {each}");
        }
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_leave_memory_after_they_were_found_are_no_more_and_no_fewer() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), small_memory()).await;
    publish(&hub, [("quiet", 1)]).await;
    publish(&hub, (0..10).map(|n| ("b", 10 + n))).await;
    let (store, reads) = (&hub.0.store, hub.0.log_reads.as_ref().expect("a log"));
    for round in 0..2_u64 {
        let subscription = subscription(&["**"]);
        let (start, head) = (last(2), store.head());
        let request = StartRequest::at(&start);
        let mut resume = store.resume(subscription.patterns(), [].iter(), request, head);
        while resume.reader.is_searching_start() {
            if let Some(search) = resume.reader.take_search() {
                let searched = reads.search(search).expect("room for it").await;
                resume.reader.return_search(searched.expect("it can be read"));
            }
            let patterns = subscription.patterns();
            if let Some(found) = store.search_start(patterns, [].iter(), &mut resume.reader) {
                resume.cursor = found.cursor;
            }
        }
        // They leave memory when it is known where to start.
        publish(&hub, (0..100).map(|n| ("z", 100 + 100 * round + n))).await;
        assert!(store.unloaded_through() > head);
        let mut found = Vec::new();
        let (mut after, mut from_disk) = (resume.cursor, 0);
        while after < head {
            let range = SeqRange { after, through: head, events_max: 3, bytes_max: 300 };
            let (patterns, reader) = (subscription.patterns(), &mut resume.reader);
            let piece = match store.read(patterns, [].iter(), reader, &range) {
                Ok(piece) => piece,
                Err(NotInMemory::FellOff) => panic!("nothing is lost"),
                Err(NotInMemory::OnDisk(through)) => {
                    from_disk += 1;
                    let read = store.log_read(patterns, [].iter(), reader, &range, through);
                    let read = reads.read(read).expect("room for it").await;
                    read.expect("it can be read").into_piece()
                }
            };
            assert!(piece.through > after);
            found.extend(piece.events.iter().map(|event| event.data().parse().ok()));
            after = piece.through;
        }
        let z = [198, 199].into_iter().filter(|_| round > 0);
        assert_eq!(found, numbers([1, 18, 19].into_iter().chain(z)));
        assert!(from_disk > 0);
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_a_hung_disk_holds_up_is_refused_to_polls_and_costs_streams_only_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = small_memory();
    limits.history.total_bytes_max = 1_000;
    limits.connections.heartbeat_s = 1;
    let hub = start(directory.path(), limits).await;
    publish(&hub, (0..200).map(|n| ("a", n))).await;
    let reads = hub.0.log_reads.as_ref().expect("a log");
    reads.hold(true);
    let mut request = StreamRequest::new(subscription(&["a"]));
    request.start = last(100);
    let mut stream = hub.stream(request).await.expect("a stream");
    let mut live = open(&hub, &["b"], Start::Now).await;
    let refused = async {
        let request = poll(&["a"], last(100));
        hub.poll_now(&request).await.map(drop)
    };
    let mut received = Received::default();
    let waiting = async {
        while received.heartbeats < 3 {
            received.take(&mut stream).await;
        }
        assert!(received.found.is_empty());
        publish(&hub, [("b", 1)]).await;
        let mut on_b = Received::default();
        while on_b.found.is_empty() {
            on_b.take(&mut live).await;
        }
    };
    let (refused, waited) = tokio::join!(refused, timeout(PATIENCE, waiting));
    waited.expect("heartbeats and live events");
    assert_eq!(refused, Err(SubscribeError::HistoryBusy));
    reads.hold(false);
    let all = async {
        while received.found.len() < LAST_EVENTS_MAX {
            received.take(&mut stream).await;
        }
    };
    timeout(PATIENCE, all).await.expect("all of it");
    assert_eq!(received.found, numbers(200 - LAST_EVENTS_MAX as u64..200));
    // A client that goes away takes its search with it.
    reads.hold(true);
    let mut request = StreamRequest::new(subscription(&["a"]));
    request.start = last(100);
    let stream = hub.stream(request).await.expect("a stream");
    while reads.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    reads.hold(false);
    while reads.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_of_a_damaged_log_ends_its_reader_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = small_memory();
    limits.history.total_bytes_max = 1_000;
    let hub = start(directory.path(), limits).await;
    for batch in 0..40 {
        publish(&hub, (0..50).map(|n| ("a", batch * 50 + n))).await;
    }
    for entry in std::fs::read_dir(directory.path()).expect("it can be read") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|end| end == "log") {
            let len = std::fs::metadata(&path).expect("a file").len() as usize;
            let mut bytes = std::fs::read(&path).expect("it can be read");
            bytes[64..len].iter_mut().for_each(|byte| *byte ^= 1);
            std::fs::write(&path, bytes).expect("written");
        }
    }
    let refused = hub.poll_now(&poll(&["a"], last(100))).await;
    assert_eq!(refused.map(drop), Err(SubscribeError::HistoryUnreadable));
    let mut request = StreamRequest::new(subscription(&["a"]));
    request.start = last(100);
    let mut stream = hub.stream(request).await.expect("a stream");
    let ends = async { while stream.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    timeout(PATIENCE, ends).await.expect("it ends");
    assert!(hub.metrics().contains("reason=\"history_unreadable\"} 1"));
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_channel_had_before_it_was_closed_and_opened_again_is_not_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = small_memory();
    limits.history.total_bytes_max = 1_000;
    limits.channels.tombstone_s = 1;
    let hub = start(directory.path(), limits).await;
    publish(&hub, (0..10).map(|n| ("a", n))).await;
    hub.close_channel(&name("a")).await.expect("it closes");
    publish(&hub, (0..10).map(|n| ("b", 100 + n))).await;
    assert_eq!(answered(&hub, subscription(&["a"]), last(3)).await[..3], numbers([7, 8, 9]));
    let opened = async {
        while is_closed(&hub, "a") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, opened).await.expect("it is open again");
    publish(&hub, [("a", 10)]).await;
    publish(&hub, (0..10).map(|n| ("b", 200 + n))).await;
    for selector in ["a", "a/**"] {
        assert_eq!(answered(&hub, subscription(&[selector]), last(9)).await, numbers([10]));
    }
    hub.shut_down().await;
}

#[derive(Debug, Clone)]
enum Step {
    /// Events to some of the channels, each with its type.
    Publish(Vec<(u8, bool)>),
    Close(u8),
    Restart,
    Read(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let events = proptest::collection::vec((0u8..5, any::<bool>()), 1..30);
    let step = prop_oneof![
        8 => events.prop_map(Step::Publish),
        1 => (0u8..5).prop_map(Step::Close),
        1 => Just(Step::Restart),
        4 => (1u32..20).prop_map(Step::Read),
    ];
    proptest::collection::vec(step, 1..25)
}

const CHANNELS: [&str; 5] = ["a", "b/1", "b/2", "c", "t"];

/// An event of the log as the model has it; one that closes its channel has no number.
#[derive(Debug, Clone, Copy)]
struct Shown {
    seq: Seq,
    channel: &'static str,
    number: Option<u64>,
    is_rare: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Streams and polls start with the last retained events of each channel, however they lie on
    /// disk and in memory, and go on with what is live.
    #[test]
    fn starts_agree_with_a_naive_model(
        steps in steps(), events_max in 1u32..60, memory in 1u64..8_000,
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let mut limits = small_memory();
            limits.history.events_max = events_max;
            limits.history.total_bytes_max = memory;
            let mut hub = start(directory.path(), limits.clone()).await;
            let mut log: Vec<Shown> = Vec::new();
            let mut count = 0;
            for step in steps {
                match step {
                    Step::Publish(events) => {
                        for (channel, is_rare) in events {
                            let channel = CHANNELS[usize::from(channel)];
                            if is_closed(&hub, channel) {
                                continue;
                            }
                            count += 1;
                            publish_one(&hub, channel, count, is_rare).await;
                            let (seq, number) = (hub.0.store.head(), Some(count));
                            log.push(Shown { seq, channel, number, is_rare });
                        }
                    }
                    Step::Close(channel) => {
                        let channel = CHANNELS[usize::from(channel)];
                        let info = hub.channel(&name(channel));
                        if info.is_some_and(|info| !info.closed) {
                            hub.close_channel(&name(channel)).await.expect("it closes");
                            let (seq, number) = (hub.0.store.head(), None);
                            log.push(Shown { seq, channel, number, is_rare: false });
                        }
                    }
                    Step::Restart => {
                        hub.shut_down().await;
                        drop(hub);
                        hub = start(directory.path(), limits.clone()).await;
                    }
                    Step::Read(each) => check(&hub, &log, each).await,
                }
            }
            check(&hub, &log, 3).await;
            // The seam to what is live, of channels that are on disk: an event more may evict those
            // of the transient one.
            let durable = ["a/**", "b/*", "c/**"];
            let with_live = [&durable[..], &["live/**"]].concat();
            let (mut stream, mut received) = begun(&hub, subscription(&with_live), last(2), 0).await;
            publish_one(&hub, "live", 1_000_000, false).await;
            while received.found.last() != Some(&Some(1_000_000)) {
                timeout(PATIENCE, received.take(&mut stream)).await.expect("it goes on");
            }
            received.found.pop();
            assert_eq!(received.found, expected(&hub, &log, &durable, &[], 2));
            hub.shut_down().await;
        });
    }
}

pub(super) async fn publish_one(hub: &Hub, channel: &str, n: u64, is_rare: bool) {
    let event_type = if is_rare { "rare" } else { "often" };
    let event_type = Some(EventType::parse(event_type).expect("a type"));
    let event = NewEvent { event_type, ..NewEvent::message(format!("{n:050}")) };
    let events = vec![(name(channel), event)];
    let publication = Publication { events, ..Publication::default() };
    hub.publish(publication).await.expect("published");
}

fn is_closed(hub: &Hub, channel: &str) -> bool {
    hub.channel(&name(channel)).is_some_and(|info| info.closed)
}

fn expected(
    hub: &Hub,
    log: &[Shown],
    selectors: &[&str],
    types: &[&str],
    each: u32,
) -> Vec<Option<u64>> {
    let pattern = |text: &str| ChannelSelector::parse(text).expect("a selector");
    let wants = |channel: &str| {
        selectors.iter().any(|selector| match pattern(selector) {
            ChannelSelector::Name(name) => name.as_str() == channel,
            ChannelSelector::Pattern(pattern) => pattern.matches(&name(channel)),
        })
    };
    let mut kept: Vec<&Shown> = Vec::new();
    for channel in CHANNELS.into_iter().filter(|channel| wants(channel)) {
        let first = hub.channel(&name(channel)).and_then(|info| info.first_id);
        let Some(first) = first.map(|first| first.seq) else { continue };
        let mut left = each;
        let of_channel = log.iter().rev().filter(|shown| shown.channel == channel);
        for shown in of_channel.take_while(|shown| shown.seq >= first) {
            if left == 0 {
                break;
            }
            if shown.number.is_none() || types.is_empty() || shown.is_rare {
                left -= u32::from(shown.number.is_some());
                kept.push(shown);
            }
        }
    }
    kept.sort_unstable_by_key(|shown| shown.seq);
    let newest = kept.len().saturating_sub(LAST_EVENTS_MAX);
    kept[newest..].iter().filter(|shown| shown.number.is_some()).map(|shown| shown.number).collect()
}

async fn check(hub: &Hub, log: &[Shown], each: u32) {
    for selectors in [&["a"][..], &["t"], &["b/1", "c"], &["b/*"], &["**"], &["a", "b/2", "**"]] {
        for types in [&[][..], &["rare"]] {
            let expected = expected(hub, log, selectors, types, each);
            let has_patterns = selectors.iter().any(|selector| selector.contains('*'));
            // All of what it names is closed: it is refused, or ends behind what is left.
            if !has_patterns && selectors.iter().all(|named| is_closed(hub, named)) {
                continue;
            }
            let subscription = typed(selectors, types);
            let mut answer = answered(hub, subscription.clone(), last(each)).await;
            // Closing events.
            answer.retain(Option::is_some);
            assert_eq!(answer, expected, "{selectors:?} {types:?} {each}");
            let (_, received) = begun(hub, subscription, last(each), expected.len()).await;
            assert_eq!(received.found, expected, "{selectors:?} {types:?} {each}");
        }
    }
}
