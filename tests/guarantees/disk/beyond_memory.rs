//! More history than memory: it is read from disk once and in order, over all ways, after kills
//! too.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::{PollClient, Publisher, SseRequest};

use super::disk_hub::{DiskHub, VISNYK};
use crate::support::{PATIENCE, TestHub, Tool, ndjson};

fn small_memory() -> DiskHub {
    DiskHub::new()
        .set("limits.history.total_bytes_max", "200000")
        .set("limits.history.bytes_max", "10000000000")
        .set("log.segment_bytes", "4194304")
}

/// Publishes events with these numbers as their data: every tenth to `few`, the others to `many`.
async fn publish(hub: &TestHub, numbers: std::ops::Range<u64>) {
    let mut publisher = Publisher::new(hub.address());
    let all: Vec<u64> = numbers.collect();
    for batch in all.chunks(1_000) {
        let batch: Vec<_> = batch
            .iter()
            .map(|n| (if n.is_multiple_of(10) { "few" } else { "many" }, n.to_string()))
            .collect();
        let lines = ndjson(batch.iter().map(|(channel, n)| (Some(*channel), n.as_str())));
        let fields = [("Content-Type", "application/x-ndjson")];
        let answer = publisher.post("/v1/events", &fields, &lines).await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.body);
    }
}

fn is_wanted(query: &str, n: u64) -> bool {
    match query {
        "channel=few" => n.is_multiple_of(10),
        "channel=many" => !n.is_multiple_of(10),
        _ => true,
    }
}

/// Reads everything up to the event `last` on a stream.
async fn check_stream(hub: &TestHub, query: &str, last: u64) {
    let request = SseRequest::new(&format!("/v1/events?{query}&last_event_id=earliest"));
    let mut stream = hub.open(&request).await;
    for n in (0..=last).filter(|n| is_wanted(query, *n)) {
        let event = stream.next_event(PATIENCE).await.unwrap().expect("it goes on");
        assert_eq!((event.event, event.data), (None, Some(n.to_string())), "{query}");
    }
}

async fn check_polls(hub: &TestHub, query: &str, last: u64) {
    let target = format!("/v1/poll?{query}&timeout=0&limit=1000");
    let mut poll = PollClient::new(hub.address(), &target).from("earliest");
    let mut expected = (0..=last).filter(|n| is_wanted(query, *n));
    loop {
        let answer = poll.next(PATIENCE).await.unwrap();
        assert!(answer.gap.is_null(), "{}", answer.gap);
        if answer.answer.status() == 204 {
            break;
        }
        assert_eq!(answer.answer.status(), 200, "{}", answer.answer.body);
        for event in answer.events {
            assert_eq!(Some(event.data), expected.next().map(|n| n.to_string()), "{query}");
        }
    }
    assert_eq!(expected.next(), None, "{query}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_far_beyond_memory_are_read_once_and_in_order_and_after_kills_too() {
    let is_long = std::env::var_os("VISNYK_TEST_LONG").is_some();
    let events = if is_long { 500_000 } else { 30_000 };
    let mut disk = small_memory();
    let mut hub = disk.start().await;
    for third in 0..3 {
        publish(&hub, third * events / 3..(third + 1) * events / 3).await;
        let last = (third + 1) * events / 3 - 1;
        // Killed while streams and polls are at it.
        let reading = async {
            loop {
                tokio::join!(
                    check_stream(&hub, "channel=many", last),
                    check_stream(&hub, "channel=**", last),
                    check_polls(&hub, "channel=few", last),
                );
            }
        };
        tokio::select! {
            () = reading => {}
            () = sleep(Duration::from_millis(300)) => {}
        }
        hub.kill().await.unwrap();
        hub = disk.start().await;
    }
    assert!(hub.metric("visnyk_history_bytes").await <= 200_000.0);
    let last = events - 1;
    tokio::join!(
        check_stream(&hub, "channel=many", last),
        check_stream(&hub, "channel=few", last),
        check_stream(&hub, "channel=**", last),
        check_polls(&hub, "channel=few&channel=many", last),
    );
    assert_eq!(hub.channel("few").await["events_retained"], events / 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_polls_start_with_the_last_events_that_are_on_disk_after_a_kill_too() {
    let mut disk = small_memory();
    let mut hub = disk.start().await;
    hub.publish("early", "first").await;
    publish(&hub, 0..30_000).await;
    // Less than a thousand events are in memory.
    assert!(hub.metric("visnyk_history_bytes").await <= 200_000.0);
    for is_killed in [false, true] {
        if is_killed {
            hub.kill().await.unwrap();
            hub = disk.start().await;
        }
        for (query, last, expected) in [
            ("channel=few", 1_000, (20_000..30_000).step_by(10).collect::<Vec<u64>>()),
            ("channel=few&channel=many", 3, vec![29_970, 29_980, 29_990, 29_997, 29_998, 29_999]),
        ] {
            let live = format!("live-{is_killed}-{last}");
            let request =
                SseRequest::new(&format!("/v1/events?{query}&channel={live}&last={last}"));
            let mut stream = hub.open(&request).await;
            for n in &expected {
                let event = stream.next_event(PATIENCE).await.unwrap().expect("it goes on");
                assert_eq!((event.event, event.data), (None, Some(n.to_string())), "{query}");
            }
            let target = format!("/v1/poll?{query}&timeout=0&limit=1000&last={last}");
            let answer = hub.get(&target).await;
            assert_eq!(answer.status(), 200, "{}", answer.body);
            let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            let events = answer["events"].as_array().unwrap().iter();
            let numbers: Vec<u64> =
                events.map(|event| event["data"].as_str().unwrap().parse().unwrap()).collect();
            assert_eq!(numbers, expected, "{query}");
            // The seam to what is live.
            hub.publish(&live, "live").await;
            let event = stream.next_event(PATIENCE).await.unwrap().expect("it goes on");
            assert_eq!(event.data.as_deref(), Some("live"), "{query}");
        }
        let request = SseRequest::new("/v1/channels/early/events?last=3");
        let event = hub.open(&request).await.next_event(PATIENCE).await.unwrap();
        assert_eq!(event.expect("it goes on").data.as_deref(), Some("first"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reads_of_the_disk_hold_up_neither_live_streams_nor_heartbeats() {
    if !Tool::Strace.is_there() {
        return;
    }
    let mut disk = small_memory().set("limits.connections.heartbeat_s", "1");
    let call = "pread64";
    disk.run_by(disk.script(
        "slow",
        &format!(
            "exec strace -D -f --seccomp-bpf -qq -o /dev/null -e trace={call} \
             -e inject={call}:delay_enter=400000 {VISNYK} \"$@\""
        ),
    ));
    let hub = disk.start().await;
    publish(&hub, 0..20_000).await;
    let behind = readers_of_all(&hub).await;
    let mut idle = hub.stream("channel=idle", "now").await;
    let mut live = hub.stream("channel=live", "now").await;
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    let mut heartbeats = 0;
    while began.elapsed() < Duration::from_secs(5) {
        let published = Instant::now();
        hub.publish("live", "now").await;
        live.next_event(PATIENCE).await.unwrap().expect("it goes on");
        slowest = slowest.max(published.elapsed());
        while let Ok(Some(block)) = idle.next_block(Duration::from_millis(20)).await {
            heartbeats += u32::from(block.comment.is_some());
        }
    }
    assert!(hub.metric("visnyk_disk_reads_waiting").await > 0.0, "the disk is busy");
    assert!(slowest < Duration::from_millis(350), "{slowest:?}");
    assert!(heartbeats >= 4, "{heartbeats}");
    drop(behind);
    // Readers that have gone leave the disk alone.
    hub.wait_for_metric("visnyk_disk_reads_waiting", |reads| reads == 0.0).await;
}

/// Readers of everything, until they are dropped.
async fn readers_of_all(hub: &TestHub) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    for _ in 0..8 {
        let request = SseRequest::new("/v1/events?channel=**&last_event_id=earliest");
        let mut stream = hub.open(&request).await;
        readers.spawn(async move { while stream.next_block(PATIENCE).await.is_ok() {} });
    }
    readers
}
