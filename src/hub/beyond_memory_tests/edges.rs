//! Where reads of the disk meet what else a hub does: closed channels, types, readers that pause,
//! many channels, reads that are cancelled.

use super::*;
use crate::model::{EventKind, EventType};

async fn publish_typed(hub: &Hub, channel: &str, n: u64, event_type: &str) {
    let event_type = Some(EventType::parse(event_type).expect("a type"));
    let event = NewEvent { event_type, ..NewEvent::message(format!("{n:050}")) };
    let publication =
        Publication { events: vec![(name(channel), event)], ..Publication::default() };
    hub.publish(publication).await.expect("published");
}

/// Everything that a stream sends until it ends.
async fn to_the_end(mut stream: crate::actors::EventBody) -> String {
    let mut text = String::new();
    let all = async {
        while let Some(frame) = stream.frame().await {
            let bytes = frame.expect("it does not fail").into_data().expect("data");
            text.push_str(std::str::from_utf8(&bytes).expect("text"));
        }
    };
    timeout(PATIENCE, all).await.expect("it ends");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_channel_on_disk_is_read_to_its_closing_event_and_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), small_memory()).await;
    publish(&hub, (0..300).map(|n| ("a", n))).await;
    hub.close_channel(&name("a")).await.expect("it closes");
    // Its closing event leaves memory as well.
    publish(&hub, (300..400).map(|n| ("b", n))).await;
    let text = to_the_end(open(&hub, &["a"], Start::Earliest).await).await;
    let numbers: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("data: ")?.parse().ok()).collect();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    assert_eq!(text.matches("event: visnyk.closed").count(), 1);
    let (mut start, mut events) = (Start::Earliest, Vec::new());
    let end = loop {
        match hub.poll_now(&poll(&["a"], start)).await {
            Ok(PollNow::Answer(answer)) => {
                events.extend(answer.events);
                start = Start::At(answer.position);
            }
            other => break other,
        }
    };
    assert_eq!(end.map(drop), Err(SubscribeError::Closed));
    assert_eq!(events.len(), 301);
    assert_eq!(events[300].kind, EventKind::Closed);
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rare_type_is_found_on_disk_by_streams_polls_and_polls_that_wait() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), small_memory()).await;
    for n in 0..2_000 {
        match n {
            700 | 1_400 => publish_typed(&hub, "a", n, "rare").await,
            _ => drop(publish(&hub, [("a", n)]).await),
        }
    }
    for selectors in [&["a"][..], &["**"]] {
        let rare = [EventType::parse("rare").expect("a type")];
        let parse = |selector: &&str| ChannelSelector::parse(selector).expect("a selector");
        let typed = Subscription::new(selectors.iter().map(parse), rare, 10).expect("valid");
        let mut request = StreamRequest::new(typed.clone());
        request.start = Start::Earliest;
        let mut stream = hub.stream(request).await.expect("a stream");
        let mut received = Received::default();
        let both = async {
            while received.found.len() < 2 {
                received.take(&mut stream).await;
            }
        };
        timeout(PATIENCE, both).await.expect("both of them");
        assert_eq!(received.found, numbers([700, 1_400]));
        // What one look of a poll does not reach, its shard reads.
        let wait = Duration::from_secs(20);
        let mut request =
            PollRequest { subscription: typed, wait, ..poll(&["a"], Start::Earliest) };
        for n in [700, 1_400_u64] {
            let reply = timeout(PATIENCE, hub.poll(request.clone())).await;
            let reply = reply.expect("in time").expect("an answer");
            assert!(String::from_utf8_lossy(&reply.body).contains(&format!("{n:050}")));
            request.start = Start::At(reply.position);
        }
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_pause_between_pieces_get_each_event_once_while_retention_keeps_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), small_memory()).await;
    publish(&hub, (0..2_000).map(|n| ("a", n))).await;
    let mut streams = Vec::new();
    for selectors in [&["a"][..], &["a", "other"], &["**"]] {
        streams.push((open(&hub, selectors, Start::Earliest).await, Received::default()));
    }
    // Each takes a little, and then nothing while more is published and leaves memory.
    for round in 0..20 {
        for (stream, received) in &mut streams {
            received.take(stream).await;
        }
        publish(&hub, (0..50).map(|n| ("a", 2_000 + round * 50 + n))).await;
    }
    for (stream, received) in &mut streams {
        let all = async {
            while received.found.len() < 3_000 {
                received.take(stream).await;
            }
        };
        timeout(PATIENCE, all).await.expect("all of it");
        assert_eq!(received.found, numbers(0..3_000));
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_channels_with_quiet_ones_among_them_are_merged_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = small_memory();
    limits.connections.heartbeat_s = 1;
    let hub = start(directory.path(), limits).await;
    let names: Vec<String> = (0..10).map(|n| format!("c/{n}")).collect();
    // The last has one event, at the beginning; the first has one at the end, in memory.
    publish(&hub, [("c/9", 0)]).await;
    for n in 1..999 {
        publish(&hub, [(names[1 + n as usize % 8].as_str(), n)]).await;
    }
    publish(&hub, [("c/0", 999)]).await;
    let selectors: Vec<&str> = names.iter().map(String::as_str).collect();
    let expected = numbers(0..1_000);
    assert_eq!(polled(&hub, &selectors, Start::Earliest).await, expected);
    assert_eq!(streamed(&hub, &selectors, Start::Earliest, 1_000).await, expected);
    assert_eq!(polled(&hub, &["c/0", "c/9"], Start::Earliest).await, numbers([0, 999]));
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_cancelled_leave_no_bytes_counted_and_no_place_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    // One piece is all that may be read and not taken.
    let reads = ReadLimits { queue_max: 64, bytes_max: 1, ..ReadLimits::default() };
    let options = DiskOptions { reads, ..DiskOptions::new(directory.path()) };
    let hub = start_with(options, small_memory()).await;
    publish(&hub, (0..2_000).map(|n| ("a", n))).await;
    let held = Arc::clone(hub.0.log_reads.as_ref().expect("a log on disk"));
    for round in 0..20 {
        held.hold(round % 2 == 0);
        let mut streams = Vec::new();
        for _ in 0..32 {
            streams.push(open(&hub, &["a"], Start::Earliest).await);
        }
        drop(streams);
        held.hold(false);
        while hub.counters().streams.get() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(streamed(&hub, &["a"], Start::Earliest, 2_000).await, numbers(0..2_000));
    assert_eq!(polled(&hub, &["a"], Start::Earliest).await, numbers(0..2_000));
    hub.shut_down().await;
}
