//! Slow clients and retention, against the real binary: what a client that does not read costs,
//! when its policy acts, and what history keeps.

use std::time::Duration;

use crate::support::{PATIENCE, TestHub, data_of, ndjson, seq};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use visnyk_loadtest::{PollClient, Publisher, SseClient, SseRequest};

const SLOW_CONSUMER: &str = r#"visnyk_connections_closed_total{reason="slow_consumer"}"#;
const WRITE_STALLED: &str = r#"visnyk_connections_closed_total{reason="write_stalled"}"#;

/// Buffers of the kernel as small as they get, so that a client is behind after a few events.
const SMALL_BUFFERS: (&str, &str) = ("LIMITS__CONNECTIONS__SEND_BUFFER_BYTES", "1");

/// A client that does not read until it is asked to.
async fn stalled(hub: &TestHub, query: &str) -> SseClient {
    let request = SseRequest::new(&format!("/v1/events?{query}")).receive_buffer_bytes(1);
    hub.open(&request).await
}

#[tokio::test]
async fn client_that_never_reads_costs_little_and_delays_no_other() {
    const STALLED: usize = 100;
    // No stall time may end before the figures are taken.
    let hub = TestHub::start(&[("LIMITS__CONNECTIONS__WRITE_STALL_S", "600")]).await;
    let mut neighbour = Neighbour::new(&hub).await;

    // As much as without stalled clients: the allocator has what it needs, and so does history.
    neighbour.follow(MEGABYTES_25).await;
    let resident = hub.resident_bytes().expect("it runs");
    let alone = neighbour.follow(MEGABYTES_25).await;

    let mut clients = Vec::new();
    for _ in 0..STALLED {
        clients.push(stalled(&hub, "channel=a&slow=skip").await);
    }
    let beside = neighbour.follow(8 * MEGABYTES_25).await;
    assert_eq!(hub.metric("visnyk_streams").await, STALLED as f64 + 1.0, "all are still there");
    let user = hub.resident_bytes().expect("it runs").saturating_sub(resident) / STALLED as u64;
    println!("user space: {user} bytes a stalled client");
    assert!(user < USER_BYTES_MAX, "{user} bytes of user space a stalled client");
    match kernel_bytes(&hub) {
        None => println!("kernel: not measured, there is no `ss`"),
        Some(sockets) => {
            let most = sockets.iter().copied().max().unwrap_or_default();
            let stalled = sockets.iter().filter(|bytes| **bytes > 10_000).count();
            println!("kernel: at most {most} bytes of a socket's send side");
            assert_eq!(stalled, STALLED, "{sockets:?}");
            assert!(most < KERNEL_BYTES_MAX, "{sockets:?}");
        }
    }
    println!("batches of 128 KiB, published to received: {alone:?} alone, {beside:?} beside them");
    assert!(beside.median < 2 * alone.median + Duration::from_millis(5), "{alone:?} {beside:?}");
    assert!(beside.p99 < 3 * alone.p99 + Duration::from_millis(50), "{alone:?} {beside:?}");

    // When they read at last, they get a gap.
    let mut one = clients.pop().expect("a client");
    let gap = loop {
        let block = one.next_event(PATIENCE).await.expect("an event").expect("not the end");
        if block.event.as_deref() == Some("visnyk.gap") {
            break block;
        }
    };
    let notice: Value = serde_json::from_str(gap.data.as_deref().expect("data")).expect("JSON");
    assert_eq!(notice["reason"], "slow");
    drop(clients);

    // Under the default policy they do not stay that long.
    let mut clients = Vec::new();
    for _ in 0..STALLED {
        clients.push(stalled(&hub, "channel=a").await);
    }
    neighbour.follow(MEGABYTES_25 / 5).await;
    hub.wait_for_metric(SLOW_CONSUMER, |closed| closed == STALLED as f64).await;
    neighbour.follow(MEGABYTES_25).await;
}

/// Publishes batches to a channel and receives each before the next.
struct Neighbour {
    publisher: Publisher,
    stream: SseClient,
    published: usize,
    filler: String,
}

/// Between a publish and the receipt of the whole batch.
#[derive(Debug, Clone, Copy)]
struct Latency {
    median: Duration,
    p99: Duration,
}

impl Neighbour {
    async fn new(hub: &TestHub) -> Self {
        Self {
            publisher: Publisher::new(hub.address()),
            stream: hub.stream("channel=a", "now").await,
            published: 0,
            filler: "x".repeat(EVENT_BYTES),
        }
    }

    async fn follow(&mut self, batches: usize) -> Latency {
        let mut latencies = Vec::new();
        for _ in 0..batches {
            let data: Vec<String> = (self.published..self.published + BATCH_EVENTS)
                .map(|number| format!("{number} {}", self.filler))
                .collect();
            let lines = ndjson(data.iter().map(|data| (None, data.as_str())));
            let begun = Instant::now();
            let answer = self.publisher.publish_batch("a", &lines, None).await.expect("an answer");
            assert_eq!(answer.status(), 201, "{}", answer.body);
            let received = data_of(&mut self.stream, BATCH_EVENTS).await;
            latencies.push(begun.elapsed());
            assert!(received == data, "events from {} on differ", self.published);
            self.published += BATCH_EVENTS;
        }
        latencies.sort_unstable();
        Latency { median: latencies[batches / 2], p99: latencies[batches * 99 / 100] }
    }
}

const EVENT_BYTES: usize = 16 * 1024;
const BATCH_EVENTS: usize = 8;
const MEGABYTES_25: usize = 25_000_000 / EVENT_BYTES / BATCH_EVENTS;
/// What a stalled client may cost in user space: the event in flight and its slot.
const USER_BYTES_MAX: u64 = 40 * 1024;
/// And in the kernel: twice `send_buffer_bytes`, and one buffer that was begun before the bound.
const KERNEL_BYTES_MAX: u64 = (128 + 64) * 1024;

/// Memory of the send side of each of the hub's sockets, as `ss` tells it: what is queued, and
/// what is set aside for it. `None` without `ss`.
fn kernel_bytes(hub: &TestHub) -> Option<Vec<u64>> {
    let port = format!("sport = :{}", hub.address().port());
    let output = std::process::Command::new("ss").args(["-tmnH", &port]).output().ok()?;
    let text = String::from_utf8(output.stdout).expect("text");
    let field = |line: &str, name: &str| {
        let (_, fields) = line.split_once("skmem:(")?;
        let value =
            fields.split([',', ')']).find_map(|field| field.strip_prefix(name)?.parse().ok());
        value.map(|value: u64| value)
    };
    let sockets = text.lines().filter_map(|line| Some(field(line, "w")? + field(line, "f")?));
    Some(sockets.collect())
}

/// What a connection had when its policy acted.
struct Acted {
    /// Events that it lagged by then.
    lag: usize,
    /// Frame bytes of one of them.
    frame: u64,
}

/// Publishes events of one size until a client that does not read is disconnected.
async fn lag_when_disconnected(bound: (&str, &str)) -> Acted {
    let hub = TestHub::start(&[SMALL_BUFFERS, ("SHARDS", "1"), bound]).await;
    // Positions of the same length throughout, so that frames are.
    let fill: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    hub.publish_all("other", &fill).await;
    let mut client = stalled(&hub, "channel=a").await;
    // Registered later, on the same shard, it is served after the stalled one.
    let mut neighbour = hub.stream("channel=a", "now").await;
    let mut published = 0;
    while hub.metric(SLOW_CONSUMER).await == 0.0 {
        assert!(published < 500, "it is not disconnected");
        hub.publish("a", &format!("{published:4} {}", "x".repeat(LAG_DATA_BYTES - 5))).await;
        published += 1;
        data_of(&mut neighbour, 1).await;
    }
    let info = hub.channel("a").await;
    let (events, bytes) = (info["events_retained"].as_u64(), info["bytes_retained"].as_u64());
    let frame = bytes.expect("a number") / events.expect("a number");
    // What it had begun to receive was no lag.
    let mut begun = 0;
    let last = loop {
        match client.next_event(PATIENCE).await {
            Ok(Some(block)) => {
                assert!(block.data.expect("data").starts_with(&format!("{begun:4} ")));
                begun += 1;
            }
            Ok(None) => break client.position().expect("a position").to_owned(),
            // In the middle of an event.
            Err(_) => {
                let last = client.position().expect("a position").to_owned();
                begun += 1;
                break last;
            }
        }
    };
    // It resumes with nothing lost.
    let received = seq(&last) as usize - 1_000;
    let mut resumed = hub.stream("channel=a", &last).await;
    let rest = data_of(&mut resumed, published - received).await;
    assert!(rest[0].starts_with(&format!("{received:4} ")));
    Acted { lag: published - begun, frame }
}

const LAG_DATA_BYTES: usize = 2_000;

#[tokio::test]
async fn lag_in_events_is_allowed_below_and_at_its_bound_and_not_above() {
    for events_max in [1, 10, 25] {
        let bound = ("LIMITS__CONNECTIONS__LAG_EVENTS_MAX", &*events_max.to_string());
        let acted = lag_when_disconnected(bound).await;
        assert_eq!(acted.lag, events_max + 1, "the first event too many");
    }
}

#[tokio::test]
async fn lag_in_bytes_is_allowed_below_and_at_its_bound_and_not_above() {
    let frame = lag_when_disconnected(("LIMITS__CONNECTIONS__LAG_BYTES_MAX", "1")).await.frame;
    for (bytes_max, lag) in [(10 * frame - 1, 10), (10 * frame, 11), (10 * frame + 1, 11)] {
        let bound = ("LIMITS__CONNECTIONS__LAG_BYTES_MAX", &*bytes_max.to_string());
        let acted = lag_when_disconnected(bound).await;
        assert_eq!((acted.lag, acted.frame), (lag, frame), "{bytes_max} bytes");
    }
}

#[tokio::test]
async fn policy_skip_jumps_on_and_says_so() {
    let settings = [
        SMALL_BUFFERS,
        ("SHARDS", "1"),
        ("LIMITS__CONNECTIONS__LAG_EVENTS_MAX", "20"),
        ("LIMITS__CONNECTIONS__SLOW_POLICY", "skip"),
    ];
    let hub = TestHub::start(&settings).await;
    let mut client = stalled(&hub, "channel=a").await;
    let mut neighbour = hub.stream("channel=a", "now").await;
    let mut positions = Vec::new();
    let long = "x".repeat(LAG_DATA_BYTES);
    for number in 0..100 {
        let data = format!("{number} {long}");
        positions.push(hub.publish("a", &data).await);
        assert_eq!(data_of(&mut neighbour, 1).await, [data], "its neighbour loses nothing");
    }
    let mut received = 0;
    let gap = loop {
        let block = client.next_event(PATIENCE).await.expect("an event").expect("not the end");
        if block.event.is_some() {
            break block;
        }
        assert_eq!(block.id.as_ref(), Some(&positions[received]), "in order up to the gap");
        received += 1;
    };
    assert!((1..80).contains(&received), "{received} events before the gap");
    assert_eq!(gap.event.as_deref(), Some("visnyk.gap"));
    let notice: Value = serde_json::from_str(gap.data.as_deref().expect("data")).expect("JSON");
    let (last, newest) = (&positions[received - 1], &positions[99]);
    let expected = serde_json::json!({"reason": "slow", "requested": last, "oldest": newest});
    assert_eq!(notice, expected);
    assert_eq!(gap.id.as_ref(), Some(newest), "where it goes on");
    let live = hub.publish("a", "live").await;
    assert_eq!(data_of(&mut client, 1).await, ["live"]);
    assert_eq!(client.position(), Some(live.as_str()));
    assert_eq!(hub.metric(r#"visnyk_gaps_total{reason="slow"}"#).await, 1.0);
    assert_eq!(hub.metric(SLOW_CONSUMER).await, 0.0);
}

#[tokio::test]
async fn client_that_falls_off_history_is_treated_by_its_policy() {
    let settings = [SMALL_BUFFERS, ("SHARDS", "1"), ("LIMITS__HISTORY__EVENTS_MAX", "10")];
    let hub = TestHub::start(&settings).await;
    let skipping = stalled(&hub, "channel=a&slow=skip").await;
    let disconnected = stalled(&hub, "channel=a&slow=disconnect").await;
    let mut neighbour = hub.stream("channel=a", "now").await;
    let long = "x".repeat(LAG_DATA_BYTES);
    for number in 0..60 {
        hub.publish("a", &format!("{number} {long}")).await;
        data_of(&mut neighbour, 1).await;
    }
    // Within its lag bound; that history has moved past it shows when it reads on.
    assert_eq!(hub.metric(SLOW_CONSUMER).await, 0.0);
    assert_eq!(read_to_gap_or_end(skipping).await.0, "slow");
    let (how, last) = read_to_gap_or_end(disconnected).await;
    assert_eq!(how, "end");
    assert_eq!(hub.metric(SLOW_CONSUMER).await, 1.0);
    let resumed = hub.poll_now("channel=a", &last).await;
    assert_eq!(resumed["gap"]["reason"], "evicted", "it gets a gap when it resumes");
    assert_eq!(resumed["events"].as_array().map(Vec::len), Some(10));
}

/// Reads events up to a gap, whose reason it gives, or the end; and the position before that.
async fn read_to_gap_or_end(mut client: SseClient) -> (String, String) {
    let mut last = String::new();
    loop {
        match client.next_event(PATIENCE).await.expect("whole events") {
            None => return ("end".to_owned(), last),
            Some(block) if block.event.is_some() => {
                let notice: Value =
                    serde_json::from_str(block.data.as_deref().expect("data")).expect("JSON");
                return (notice["reason"].as_str().expect("a reason").to_owned(), last);
            }
            Some(block) => last = block.id.expect("a position"),
        }
    }
}

#[tokio::test]
async fn peer_that_takes_no_byte_is_ended_after_the_stall_time_and_a_slow_one_is_not() {
    let settings = [
        SMALL_BUFFERS,
        ("LIMITS__CONNECTIONS__WRITE_STALL_S", "1"),
        ("LIMITS__CONNECTIONS__LAG_EVENTS_MAX", "1000000"),
        ("LIMITS__CONNECTIONS__LAG_BYTES_MAX", "100000000"),
    ];
    let hub = TestHub::start(&settings).await;
    let quiet = hub.stream("channel=quiet", "now").await;
    let stuck = stalled(&hub, "channel=a").await;
    let mut slow = stalled(&hub, "channel=a").await;
    let data: Vec<String> = (0..60).map(|n| format!("{n} {}", "x".repeat(8_000))).collect();
    let begun = Instant::now();
    hub.publish_all("a", &data).await;
    // This one takes an event every 50 ms: three seconds for all of them.
    for expected in &data {
        assert_eq!(data_of(&mut slow, 1).await, [expected.as_str()]);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert_eq!(hub.metric(WRITE_STALLED).await, 1.0, "one of the two");
    assert_eq!(hub.metric("visnyk_streams").await, 2.0);
    assert_eq!(hub.metric(SLOW_CONSUMER).await, 0.0);
    drop((stuck, quiet));
}

#[tokio::test]
async fn stall_time_is_kept() {
    let settings = [SMALL_BUFFERS, ("LIMITS__CONNECTIONS__WRITE_STALL_S", "2")];
    let hub = TestHub::start(&settings).await;
    let _stuck = stalled(&hub, "channel=a").await;
    let begun = Instant::now();
    hub.publish("a", &"x".repeat(200_000)).await;
    hub.wait_for_metric(WRITE_STALLED, |closed| closed == 1.0).await;
    let after = begun.elapsed();
    assert!((2.0..4.0).contains(&after.as_secs_f64()), "ended after {after:?}");
}

#[tokio::test]
async fn poll_whose_answer_is_not_read_is_ended_too() {
    let settings = [SMALL_BUFFERS, ("LIMITS__CONNECTIONS__WRITE_STALL_S", "1")];
    let hub = TestHub::start(&settings).await;
    // As an event stream it is opened, since that is the client that can stop reading.
    let request = SseRequest::new("/v1/poll?channel=a&timeout=60").receive_buffer_bytes(1);
    let address = hub.address();
    let polling = tokio::spawn(async move { SseClient::connect(address, &request).await });
    hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 1.0).await;
    hub.publish("a", &"x".repeat(500_000)).await;
    let _unread = polling.await.expect("it does not fail").expect("the head of an answer");
    hub.wait_for_metric(WRITE_STALLED, |closed| closed == 1.0).await;
    assert_eq!(hub.metric("visnyk_pollers").await, 0.0);
    // A long answer that is read does not count as one.
    let mut poll = PollClient::new(address, "/v1/poll?channel=a&timeout=60").from("earliest");
    let answer = poll.next(PATIENCE).await.expect("an answer");
    assert_eq!(answer.events[0].data.len(), 500_000);
}

// Retention.

/// Frame bytes of an event of this size whose position has a one-digit number.
async fn frame_bytes(data: &str) -> u64 {
    let hub = TestHub::start(&[]).await;
    hub.publish("a", data).await;
    hub.channel("a").await["bytes_retained"].as_u64().expect("a number")
}

async fn events_retained(hub: &TestHub, channel: &str) -> u64 {
    hub.channel(channel).await["events_retained"].as_u64().expect("a number")
}

#[tokio::test]
async fn retention_by_count_at_below_and_above_its_bound() {
    let hub = TestHub::start(&[("LIMITS__HISTORY__EVENTS_MAX", "5")]).await;
    for number in 1..=7 {
        hub.publish("a", &number.to_string()).await;
        hub.publish("b", "another channel has its own").await;
        assert_eq!(events_retained(&hub, "a").await, number.min(5));
    }
    assert_eq!(hub.retained("channel=a", "earliest").await, ["3", "4", "5", "6", "7"]);
}

#[tokio::test]
async fn retention_by_bytes_at_below_and_above_its_bound() {
    let data = "x".repeat(500);
    let frame = frame_bytes(&data).await;
    for (bytes_max, kept) in [(3 * frame - 1, 2), (3 * frame, 3), (3 * frame + 1, 3)] {
        let bound = bytes_max.to_string();
        let hub = TestHub::start(&[("LIMITS__HISTORY__BYTES_MAX", bound.as_str())]).await;
        for number in 1..=6 {
            hub.publish("a", &data).await;
            assert_eq!(events_retained(&hub, "a").await, number.min(kept), "{bytes_max}");
        }
        // The newest stays, however large it is.
        hub.publish("a", &"y".repeat(5_000)).await;
        assert_eq!(events_retained(&hub, "a").await, 1);
    }
}

#[tokio::test]
async fn retention_by_age() {
    let hub = TestHub::start(&[("LIMITS__HISTORY__AGE_MAX_S", "2")]).await;
    let begun = Instant::now();
    hub.publish("a", "old").await;
    hub.wait_for_channel("a", |info| info["events_retained"] == 0).await;
    let after = begun.elapsed();
    assert!((2.0..4.5).contains(&after.as_secs_f64()), "evicted after {after:?}");
    hub.publish("a", "new").await;
    assert_eq!(hub.retained("channel=a", "earliest").await, ["new"]);
}

#[tokio::test]
async fn retention_under_the_ceiling_of_the_hub_keeps_the_newest_events_of_all() {
    let settings =
        [("LIMITS__HISTORY__BYTES_MAX", "40000"), ("LIMITS__HISTORY__TOTAL_BYTES_MAX", "40000")];
    let hub = TestHub::start(&settings).await;
    let mut published = Vec::new();
    let mut rng = fastrand::Rng::with_seed(crate::support::seed());
    for number in 0..300 {
        let data = format!("{number} {}", "x".repeat(rng.usize(..1_000)));
        hub.publish(&format!("channel/{}", rng.u8(..10)), &data).await;
        published.push(data);
        if number % 50 == 49 {
            let kept = hub.retained("channel=**", "earliest").await;
            assert_eq!(kept, published[published.len() - kept.len()..], "the newest of all");
            let bytes: usize = kept.iter().map(String::len).sum();
            assert!((15_000..=40_000).contains(&bytes), "{bytes} bytes of {}", kept.len());
        }
    }
    let bytes = hub.wait_for_metric("visnyk_history_bytes", |bytes| bytes > 20_000.0).await;
    assert!(bytes <= 40_000.0, "{bytes}");
}

#[tokio::test]
async fn stalled_client_does_not_hold_evicted_events_in_memory() {
    let settings = [
        ("LIMITS__CONNECTIONS__LAG_EVENTS_MAX", "1000000"),
        ("LIMITS__CONNECTIONS__LAG_BYTES_MAX", "1000000000"),
        ("LIMITS__CONNECTIONS__WRITE_STALL_S", "600"),
    ];
    let hub = TestHub::start(&settings).await;
    let mut neighbour = Neighbour::new(&hub).await;
    neighbour.follow(MEGABYTES_25).await;
    let resident = hub.resident_bytes().expect("it runs");
    // Subscribed at different times, each would hold a different part of history.
    let mut clients = Vec::new();
    for _ in 0..80 {
        clients.push(stalled(&hub, "channel=a").await);
        neighbour.follow(2).await;
    }
    let grown = hub.resident_bytes().expect("it runs").saturating_sub(resident);
    println!("{grown} bytes more for 80 clients across 20 MB");
    // An event each are 1.3 MB; a batch each would be 10.
    assert!(grown < 5_000_000, "{grown} bytes");
    // They are behind, and not disconnected: the lag bounds are out of reach.
    assert_eq!(hub.metric(SLOW_CONSUMER).await, 0.0);
    let wait = timeout(PATIENCE, clients[0].next_event(PATIENCE)).await;
    assert!(wait.is_ok());
}
