//! The eight invariants of docs/architecture.md, each held against the real binary. Further tests
//! of the same kind, at a larger scale: fleet.rs (order, resume), slow.rs (bounded), overload.rs
//! (backpressure), faults.rs (isolation), drain.rs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{
    Channels, Follower, Load, LoadPlan, PATIENCE, TestHub, Transports, assert_exact, data_of,
    ndjson, run_all, seed, seq, with_seq,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use visnyk_loadtest::{Block, Exchange, PollClient, Publisher, SseClient, SseRequest};

/// Retention that no test of exact sequences reaches.
const KEEP_ALL: [(&str, &str); 2] =
    [("LIMITS__HISTORY__EVENTS_MAX", "1000000"), ("LIMITS__HISTORY__BYTES_MAX", "200000000")];

// 1. Order.

#[tokio::test]
async fn invariant_1_order_across_all_channels_of_a_connection() {
    let hub = TestHub::start(&KEEP_ALL).await;
    let names: Vec<String> = (0..6).map(|n| format!("order/{n}")).collect();
    let every = [
        Channels::Named(names.clone()),
        Channels::Named(names[..2].to_vec()),
        Channels::Below("order".into()),
        Channels::All,
    ];
    let mut followers = Vec::new();
    for (number, channels) in every.into_iter().enumerate() {
        for transports in [Transports::Sse, Transports::Poll] {
            let ends = names.iter().filter(|name| channels.contains(name)).count();
            let name = format!("follower {number}");
            let channels = channels.clone();
            let follower = Follower::start(name, hub.address(), channels, transports, 1).await;
            followers.push((follower, ends));
        }
    }
    let followers = run_all(followers);
    let plan = LoadPlan {
        channels: names,
        publishers: 4,
        requests_max: 150,
        pause: Duration::ZERO,
        seed: seed(),
    };
    let ledger = Load::start(hub.address(), &plan).finish().await;
    assert_exact(followers, &ledger).await;
}

#[tokio::test]
async fn invariant_1_order_of_one_batch_across_two_channels_is_kept() {
    let hub = TestHub::start(&[]).await;
    let mut stream = hub.stream("channel=a&channel=b", "now").await;
    let data: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let lines = data.iter().enumerate().map(|(n, data)| {
        let channel = if n % 3 == 0 { "a" } else { "b" };
        (Some(channel), data.as_str())
    });
    let fields = [("Content-Type", "application/x-ndjson")];
    let answer = hub.request("POST", "/v1/events", &fields, &ndjson(lines)).await;
    assert_eq!(answer.status(), 201, "{}", answer.body);
    assert_eq!(data_of(&mut stream, 60).await, data);
    assert_eq!(hub.retained("channel=b&channel=a", "earliest").await, data);
}

#[tokio::test]
async fn invariant_1_order_holds_when_a_name_and_patterns_match_the_same_channel() {
    let hub = TestHub::start(&[]).await;
    let start = hub.publish("other", "before").await;
    let query = "channel=a/b&channel=a/*&channel=**";
    let mut live = hub.stream(query, "now").await;
    let data: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for (n, data) in data.iter().enumerate() {
        // One of the channels is created while the stream is open.
        hub.publish(if n % 2 == 0 { "a/b" } else { "a/late" }, data).await;
    }
    let mut replayed = hub.stream(query, &start).await;
    assert_eq!(data_of(&mut live, 20).await, data, "each once");
    assert_eq!(data_of(&mut replayed, 20).await, data, "each once");
    assert_eq!(hub.retained(query, &start).await, data, "each once");
}

// 2. Resume.

/// Followers that are cut over and over while publishing goes on.
async fn resume_at_the_joint(transports: Transports) {
    let hub = TestHub::start(&KEEP_ALL).await;
    let names: Vec<String> = ["a", "b", "c/d"].map(str::to_owned).to_vec();
    let every = [
        Channels::one("a"),
        Channels::Named(names.clone()),
        Channels::Below("c".into()),
        Channels::All,
    ];
    let seed = seed();
    let plan = LoadPlan {
        channels: names.clone(),
        publishers: 3,
        requests_max: usize::MAX,
        pause: Duration::from_millis(2),
        seed,
    };
    let load = Load::start(hub.address(), &plan);
    let mut followers = Vec::new();
    for number in 0..12_u64 {
        let channels = every[number as usize % every.len()].clone();
        let ends = names.iter().filter(|name| channels.contains(name)).count();
        let name = format!("follower {number}");
        let follower = Follower::start(name, hub.address(), channels, transports, seed + number);
        followers.push((follower.await.cut_within(Duration::from_millis(60)), ends));
    }
    let mut followers = run_all(followers);
    load.wait_for(3_000).await;
    let ledger = load.end().await;
    let mut connects = 0;
    while let Some(follower) = followers.join_next().await {
        let follower = follower.expect("a follower does not fail");
        follower.assert_exact(&ledger);
        connects += follower.connects;
    }
    assert!(connects > 60, "only {connects} connections: nothing was cut");
}

#[tokio::test]
async fn invariant_2_resume_exactly_once_on_a_stream_while_publishing_goes_on() {
    resume_at_the_joint(Transports::Sse).await;
}

#[tokio::test]
async fn invariant_2_resume_exactly_once_on_long_poll_while_publishing_goes_on() {
    resume_at_the_joint(Transports::Poll).await;
}

#[tokio::test]
async fn invariant_2_resume_exactly_once_from_one_transport_to_the_other() {
    resume_at_the_joint(Transports::Both).await;
}

#[tokio::test]
async fn invariant_2_resume_from_every_position_gives_exactly_the_rest() {
    let hub = TestHub::start(&[]).await;
    let before = hub.stream("channel=a", "now").await.position().unwrap().to_owned();
    let mut positions = vec![before];
    let mut data = Vec::new();
    for n in 0..24 {
        // Positions of a channel that the client does not follow are as good.
        let channel = if n % 3 == 0 { "b" } else { "a" };
        positions.push(hub.publish(channel, &n.to_string()).await);
        data.push((channel, n.to_string()));
    }
    for (index, position) in positions.iter().enumerate() {
        let rest = data[index..].iter().filter(|(channel, _)| *channel == "a");
        let rest: Vec<String> = rest.map(|(_, data)| data.clone()).collect();
        let mut stream = hub.stream("channel=a", position).await;
        assert_eq!(data_of(&mut stream, rest.len()).await, rest, "stream from {position}");
        assert_eq!(hub.retained("channel=a", position).await, rest, "poll from {position}");
        for name in ["last_event_id", "lastEventId", "lastEventID"] {
            let query = format!("channel=a&{name}={position}");
            assert_eq!(hub.retained(&query, "").await, rest, "{name} {position}");
        }
        // What comes next on the stream is new, and comes once.
        if index % 8 == 0 {
            let next = hub.publish("a", &format!("live {index}")).await;
            data.push(("a", format!("live {index}")));
            assert_eq!(data_of(&mut stream, 1).await, [format!("live {index}")]);
            assert_eq!(stream.position(), Some(next.as_str()));
        }
    }
}

#[tokio::test]
async fn invariant_2_resume_from_the_first_block_and_from_heartbeats_loses_nothing() {
    let hub = TestHub::start(&[("LIMITS__CONNECTIONS__HEARTBEAT_S", "1")]).await;
    let mut quiet = hub.stream("channel=quiet", "now").await;
    let first = quiet.position().unwrap().to_owned();
    // A heartbeat moves the position on although nothing came for it, if it is far behind.
    let others: Vec<String> = (0..4_200).map(|n| n.to_string()).collect();
    hub.publish_all("other", &others).await;
    let other = hub.publish("other", "not for it").await;
    while quiet.position() == Some(first.as_str()) {
        let block = quiet.next_block(PATIENCE).await.unwrap().expect("a heartbeat");
        assert_eq!(block.data, None);
    }
    let heartbeat = quiet.position().unwrap().to_owned();
    drop(quiet);
    hub.publish("quiet", "missed").await;
    for position in [&first, &heartbeat, &other] {
        let mut stream = hub.stream("channel=quiet", position).await;
        assert_eq!(data_of(&mut stream, 1).await, ["missed"]);
    }
    let mut poll = PollClient::new(hub.address(), "/v1/poll?channel=quiet&timeout=1").from(&other);
    assert_eq!(poll.next(PATIENCE).await.unwrap().events[0].data, "missed");
    // A poll that times out moves on as well.
    let last = hub.publish("other", "again not").await;
    assert_eq!(poll.next(PATIENCE).await.unwrap().answer.status(), 204);
    assert_eq!(poll.position(), Some(last.as_str()));
}

#[tokio::test]
async fn invariant_2_resume_over_a_channel_that_is_closed_in_mid_replay() {
    let hub = TestHub::start(&KEEP_ALL).await;
    let start = hub.publish("other", "before").await;
    let long = "x".repeat(4_000);
    let data: Vec<String> = (0..500).map(|n| format!("{n} {long}")).collect();
    hub.publish_all("a", &data[..250]).await;
    hub.publish_all("a", &data[250..]).await;
    // A small receive buffer, so that the replay is under way when the channel is closed.
    let request = SseRequest::new("/v1/events?channel=a").from(&start).receive_buffer_bytes(8_192);
    let mut stream = hub.open(&request).await;
    assert_eq!(data_of(&mut stream, 10).await, data[..10]);
    assert_eq!(hub.request("DELETE", "/v1/channels/a", &[], "").await.status(), 204);
    assert_eq!(data_of(&mut stream, 490).await, data[10..]);
    let closed = stream.next_event(PATIENCE).await.unwrap().expect("the closing event");
    assert_eq!(
        (closed.event.as_deref(), closed.data.as_deref()),
        (Some("visnyk.closed"), Some("a"))
    );
    assert_eq!(stream.next_block(PATIENCE).await.unwrap(), None, "the stream ends");
    // A client that has all of it gets the closed event and stops; one with an older position still
    // gets the rest.
    let request = SseRequest::new("/v1/events?channel=a").from(closed.id.as_deref().unwrap());
    let stop = SseClient::connect(hub.address(), &request).await.unwrap();
    assert_eq!(stop.head().status, 204);
    let rest = hub.poll_now("channel=a", &with_seq(&start, seq(&start) + 499)).await;
    let rest = rest["events"].as_array().unwrap();
    assert_eq!(rest.len(), 2, "the last event and the closing one");
    assert_eq!(
        (rest[0]["data"].as_str(), rest[1]["data"].as_str()),
        (Some(&*data[499]), Some("a"))
    );
}

// 3. Honest gaps.

/// The gap that a client gets when it resumes, over both transports; null without one.
async fn gap_of(hub: &TestHub, query: &str, from: &str) -> Value {
    let polled = hub.poll_now(query, from).await["gap"].clone();
    // A gap stands right after the first block; a mark on a new channel says that none came.
    static MARKS: AtomicU32 = AtomicU32::new(0);
    let channel = format!("mark/{}", MARKS.fetch_add(1, Ordering::Relaxed));
    let mark = hub.publish(&channel, "mark").await;
    let mut stream = hub.stream(&format!("{query}&channel={channel}"), from).await;
    let mut streamed = Value::Null;
    loop {
        let block = stream.next_event(PATIENCE).await.unwrap().expect("an event");
        match block.event.as_deref() {
            Some("visnyk.gap") => {
                streamed = serde_json::from_str(block.data.as_deref().unwrap()).unwrap();
                assert_eq!(block.id.as_deref(), streamed["oldest"].as_str());
            }
            _ if block.id.as_deref() == Some(&mark) => break,
            _ => {}
        }
    }
    assert_eq!(streamed["reason"], polled["reason"], "both transports tell the same");
    assert_eq!(streamed["requested"], polled["requested"], "both transports tell the same");
    polled
}

#[tokio::test]
async fn invariant_3_honest_gap_where_events_were_evicted_and_none_at_the_edge() {
    let hub = TestHub::start(&[("LIMITS__HISTORY__EVENTS_MAX", "5")]).await;
    let mut positions = vec![hub.stream("channel=a", "now").await.position().unwrap().to_owned()];
    for n in 1..=10 {
        positions.push(hub.publish("a", &n.to_string()).await);
    }
    let kept: Vec<String> = (6..=10).map(|n| n.to_string()).collect();
    for (index, position) in positions.iter().enumerate() {
        let answer = hub.poll_now("channel=a", position).await;
        let mut stream = hub.stream("channel=a", position).await;
        if index < 5 {
            let gap = stream.next_event(PATIENCE).await.unwrap().expect("a gap");
            assert_eq!(gap.event.as_deref(), Some("visnyk.gap"), "from {index}");
            let notice: Value = serde_json::from_str(gap.data.as_deref().unwrap()).unwrap();
            let expected = serde_json::json!({
                "reason": "evicted",
                "requested": position,
                "oldest": positions[5],
                "channel": "a",
            });
            assert_eq!(notice, expected);
            assert_eq!(answer["gap"], expected);
            assert_eq!(gap.id.as_deref(), Some(positions[5].as_str()), "where it goes on");
            assert_eq!(data_of(&mut stream, 5).await, kept);
        } else {
            assert_eq!(answer["gap"], Value::Null, "from {index}");
            let rest: Vec<String> = (index + 1..=10).map(|n| n.to_string()).collect();
            assert_eq!(data_of(&mut stream, rest.len()).await, rest);
        }
    }
    // A client that resumes from the oldest event has missed nothing.
    assert_eq!(hub.poll_now("channel=a", "earliest").await["gap"], Value::Null);
}

#[tokio::test]
async fn invariant_3_honest_gaps_are_not_sent_on_a_quiet_channel() {
    let settings = [
        ("LIMITS__HISTORY__EVENTS_MAX", "5"),
        ("LIMITS__HISTORY__BYTES_MAX", "20000"),
        ("LIMITS__HISTORY__TOTAL_BYTES_MAX", "20000"),
    ];
    let hub = TestHub::start(&settings).await;
    let start = hub.publish("quiet", "1").await;
    hub.publish("busy", "first").await;
    let busy: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    hub.publish_all("busy", &busy).await;
    assert_eq!(gap_of(&hub, "channel=quiet", &start).await, Value::Null, "busy is not followed");
    assert_eq!(gap_of(&hub, "channel=busy", &start).await["reason"], "evicted");
    let both = gap_of(&hub, "channel=quiet&channel=busy", &start).await;
    assert_eq!(
        (both["reason"].as_str(), both["channel"].as_str()),
        (Some("evicted"), Some("busy"))
    );
    let pattern = gap_of(&hub, "channel=**", &start).await;
    assert_eq!(pattern["reason"], "evicted");
    assert_eq!(gap_of(&hub, "channel=qu/*&channel=never", &start).await, Value::Null);
    // The ceiling of the hub evicts the oldest event of all, the quiet channel's: a client that has
    // it has lost nothing, and one that has not gets a gap.
    let long = "x".repeat(4_000);
    for n in 0..10 {
        hub.publish(&format!("filler/{n}"), &long).await;
    }
    assert_eq!(hub.channel("quiet").await["events_retained"], 0);
    assert_eq!(gap_of(&hub, "channel=quiet", &start).await, Value::Null);
    let before = with_seq(&start, seq(&start) - 1);
    assert_eq!(gap_of(&hub, "channel=quiet", &before).await["channel"], "quiet");
}

/// A hub whose channels are evicted soon after they are idle.
const FORGETFUL: [(&str, &str); 3] = [
    ("LIMITS__HISTORY__AGE_MAX_S", "1"),
    ("LIMITS__CHANNELS__IDLE_S", "1"),
    ("LIMITS__CHANNELS__FORGOTTEN_MAX", "3"),
];

#[tokio::test]
async fn invariant_3_honest_gaps_on_channels_that_are_evicted() {
    let hub = TestHub::start(&FORGETFUL).await;
    let before = hub.publish("other", "x").await;
    let first = hub.publish("a/1", "1").await;
    let last = hub.publish("a/1", "2").await;
    for name in ["a/1", "other"] {
        hub.wait_for_channel(name, Value::is_null).await;
    }
    let gap = hub.poll_now("channel=a/1", &first).await["gap"].clone();
    assert_eq!(gap["reason"], "evicted", "the second event is gone, and so is its channel");
    assert_eq!(hub.poll_now("channel=a/*", &first).await["gap"]["reason"], "evicted");
    assert_eq!(hub.poll_now("channel=a/1", &last).await["gap"], Value::Null, "it has everything");
    assert_eq!(hub.poll_now("channel=a/*", &last).await["gap"], Value::Null);
    assert_eq!(hub.poll_now("channel=never", &before).await["gap"], Value::Null, "never was");
    assert_eq!(hub.poll_now("channel=b/*", &before).await["gap"], Value::Null);
    // Created again, it still knows.
    hub.publish("a/1", "3").await;
    assert_eq!(hub.poll_now("channel=a/1", &first).await["gap"]["reason"], "evicted");
    let rest = hub.poll_now("channel=a/1", &last).await;
    assert_eq!((&rest["gap"], &rest["events"][0]["data"]), (&Value::Null, &Value::from("3")));
}

#[tokio::test]
async fn invariant_3_honest_gaps_below_the_floor_of_evicted_channels() {
    let hub = TestHub::start(&FORGETFUL).await;
    let first = hub.publish("f/0", "0").await;
    for n in 1..8 {
        hub.publish(&format!("f/{n}"), "x").await;
    }
    let last = hub.publish("quiet", "x").await;
    for n in 0..8 {
        hub.wait_for_channel(&format!("f/{n}"), Value::is_null).await;
    }
    hub.wait_for_channel("quiet", Value::is_null).await;
    // Six of nine share the floor: better a gap too many there than one too few...
    for n in 1..8 {
        let gap = hub.poll_now(&format!("channel=f/{n}"), &first).await["gap"].clone();
        assert_eq!(gap["reason"], "evicted", "f/{n}");
    }
    // ...and none above it.
    for query in ["channel=f/0", "channel=f/7", "channel=quiet", "channel=never", "channel=f/*"] {
        assert_eq!(hub.poll_now(query, &last).await["gap"], Value::Null, "{query}");
    }
}

#[tokio::test]
async fn invariant_3_honest_gap_from_another_epoch_and_for_unknown_positions() {
    let mut hub = TestHub::start(&[]).await;
    let address = hub.address();
    hub.publish("a", "old").await;
    let old = hub.publish("a", "old as well").await;
    hub.kill().await.unwrap();
    let hub = TestHub::start_at(address, &[]).await;
    hub.publish("a", "new").await;
    let gap = gap_of(&hub, "channel=a", &old).await;
    assert_eq!((gap["reason"].as_str(), gap["requested"].as_str()), (Some("epoch"), Some(&*old)));
    assert_eq!(hub.retained("channel=a", &old).await, ["new"], "from the oldest retained event");
    // On a channel that never was, too: another log may have had it.
    assert_eq!(gap_of(&hub, "channel=b", &old).await["reason"], "epoch");
    // Tokens of other hubs, and a seq that this log has not reached.
    let ahead = with_seq(&hub.publish("a", "newer").await, 1_000_000);
    for token in ["7", "some.other-hubs_token", &ahead] {
        let gap = gap_of(&hub, "channel=a", token).await;
        let notice = (gap["reason"].as_str(), gap["requested"].as_str());
        assert_eq!(notice, (Some("unknown_position"), Some(token)));
        assert_eq!(hub.retained("channel=a", token).await, ["new", "newer"]);
    }
    // What cannot be a position is refused, not answered with a gap.
    let answer = hub.get("/v1/poll?channel=a&last_event_id=urn:uuid").await;
    assert_eq!((answer.status(), answer.json()["field"].as_str()), (400, Some("last_event_id")));
}

// 4. Bounded. See slow.rs for what a connection may cost, and for retention.

#[tokio::test]
async fn invariant_4_bounded_number_of_connections() {
    let hub = TestHub::start(&[("LIMITS__CONNECTIONS__CONNECTIONS_MAX", "3")]).await;
    let two = [hub.stream("channel=a", "now").await, hub.stream("channel=**", "now").await];
    let mut waiting = Exchange::new(hub.address());
    let waiting = tokio::spawn(async move {
        waiting.request("GET", "/v1/poll?channel=a", &[], b"", PATIENCE).await
    });
    hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 1.0).await;
    // At the bound: a stream is refused so that EventSource survives it, a poll by a status.
    let request = SseRequest::new("/v1/events?channel=a");
    let mut refused = hub.open(&request).await;
    let block = refused.next_block(PATIENCE).await.unwrap().expect("words");
    assert!(block.comment.unwrap().contains("refused") && block.retry_ms.is_some());
    assert_eq!(refused.next_block(PATIENCE).await.unwrap(), None, "and the end");
    let answer = hub.get("/v1/poll?channel=a").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.head.field("retry-after").is_some());
    assert_eq!(
        hub.metric(r#"visnyk_subscriptions_refused_total{reason="too_many_connections"}"#).await,
        2.0
    );
    // An answered poll and a closed stream release their permits.
    hub.publish("a", "x").await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    drop(two);
    hub.wait_for_metric("visnyk_streams", |streams| streams == 0.0).await;
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(hub.stream("channel=a", "now").await);
    }
}

#[tokio::test]
async fn invariant_4_bounded_memory_of_connections_that_come_and_go() {
    let hub = TestHub::start(&[]).await;
    let cycle = async || {
        let mut streams = Vec::new();
        for number in 0..300 {
            let query = ["channel=a", "channel=a&channel=b/*", "channel=a&type=t"][number % 3];
            streams.push(hub.stream(query, "now").await);
        }
        let mut polls = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let address = hub.address();
            polls.spawn(async move {
                let mut poll = PollClient::new(address, "/v1/poll?channel=a&timeout=60");
                poll.next(PATIENCE).await.unwrap().answer.status()
            });
        }
        hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 300.0).await;
        hub.publish("a", "x").await;
        assert_eq!(polls.join_all().await, [200; 300]);
        drop(streams);
        hub.wait_for_metric("visnyk_streams", |streams| streams == 0.0).await;
        hub.resident_bytes().unwrap()
    };
    // How many are under way at once depends on what else the machine does, and the allocator keeps
    // what the busiest moment took; what leaks is in every later figure.
    let mut warm = 0;
    for _ in 0..3 {
        warm = cycle().await.max(warm);
    }
    for _ in 0..4 {
        cycle().await;
    }
    let grown = cycle().await.min(cycle().await).saturating_sub(warm);
    println!("{grown} bytes more after five times 600 connections");
    assert!(grown < 2_000_000, "{grown} bytes");
    let info = hub.channel("a").await;
    assert_eq!((&info["subscribers"], &info["pollers"]), (&Value::from(0), &Value::from(0)));
}

#[tokio::test]
async fn invariant_4_bounded_number_of_channels_and_selectors() {
    let settings =
        [("LIMITS__CHANNELS__CHANNELS_MAX", "3"), ("LIMITS__CONNECTIONS__SUBSCRIPTIONS_MAX", "2")];
    let hub = TestHub::start(&settings).await;
    for name in ["a", "b", "c"] {
        hub.publish(name, "x").await;
    }
    let mut publisher = Publisher::new(hub.address());
    let answer = publisher.publish("d", "x").await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.head.field("retry-after").is_some());
    assert_eq!(publisher.publish("c", "x").await.unwrap().status(), 201, "those there are go on");
    let answer = hub.get("/v1/poll?channel=d&timeout=0").await;
    assert_eq!(answer.status(), 503);
    hub.stream("channel=a&channel=b/*", "now").await;
    let answer = hub.get("/v1/events?channel=a&channel=b&channel=c/*").await;
    assert_eq!((answer.status(), answer.json()["field"].as_str()), (400, Some("channel")));
}

#[tokio::test]
async fn invariant_4_bounded_requests() {
    let settings = [
        ("LIMITS__PUBLISH__BODY_BYTES_MAX", "100"),
        ("LIMITS__PUBLISH__BATCH_EVENTS_MAX", "3"),
        ("LIMITS__POLL__TIMEOUT_MAX_S", "30"),
        ("HEADER_READ_TIMEOUT_S", "1"),
        ("BODY_READ_TIMEOUT_S", "1"),
    ];
    let hub = TestHub::start(&settings).await;
    let mut publisher = Publisher::new(hub.address());
    for (bytes, status) in [(99, 201), (100, 201), (101, 413)] {
        let answer = publisher.publish("a", &"x".repeat(bytes)).await.unwrap();
        assert_eq!(answer.status(), status, "{bytes} bytes");
    }
    for (events, status) in [(2, 201), (3, 201), (4, 413)] {
        let lines = ndjson((0..events).map(|_| (None, "x")));
        let answer = publisher.publish_batch("a", &lines, None).await.unwrap();
        assert_eq!(answer.status(), status, "{events} events");
    }
    assert_eq!(hub.retained("channel=a", "earliest").await.len(), 2 + 5, "none in part");
    for (query, status) in
        [("timeout=30", 200), ("timeout=31", 400), ("limit=1000", 200), ("limit=1001", 400)]
    {
        let target = format!("/v1/poll?channel=a&last_event_id=earliest&{query}");
        assert_eq!(hub.get(&target).await.status(), status, "{query}");
    }
    // A head or a body that does not come has its time.
    for (sent, status) in [
        ("GET /v1/events?channel=a HTTP/1.1\r\nHost: local", None),
        (
            "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
            Some("408"),
        ),
    ] {
        let mut socket = TcpStream::connect(hub.address()).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let end = timeout(PATIENCE, socket.read_to_string(&mut answer)).await;
        end.expect("the hub closes it").unwrap();
        assert_eq!(answer.split(' ').nth(1), status, "{answer}");
    }
}

// 5. Backpressure. See overload.rs for many publishers.

#[tokio::test]
async fn invariant_5_backpressure_frees_every_permit_a_crash_included() {
    let settings = [
        ("FAULTS", "true"),
        ("SHARDS", "2"),
        ("LIMITS__PUBLISH__IN_FLIGHT_MAX", "64"),
        ("LIMITS__PUBLISH__WAIT_MS", "5000"),
        KEEP_ALL[0],
        KEEP_ALL[1],
    ];
    let hub = TestHub::start(&settings).await;
    let names: Vec<String> = ["a", "b"].map(str::to_owned).to_vec();
    let mut followers = Vec::new();
    for number in 0..20 {
        let name = format!("follower {number}");
        let channels = if number % 2 == 0 { Channels::one("a") } else { Channels::All };
        let ends = if number % 2 == 0 { 1 } else { 2 };
        let follower = Follower::start(name, hub.address(), channels, Transports::Sse, number);
        followers.push((follower.await, ends));
    }
    let followers = run_all(followers);
    let plan = LoadPlan {
        channels: names,
        publishers: 16,
        requests_max: usize::MAX,
        pause: Duration::ZERO,
        seed: seed(),
    };
    let load = Load::start(hub.address(), &plan);
    for (round, fault) in
        ["shard?shard=0", "kill-shard?shard=1", "shard?shard=1"].iter().enumerate()
    {
        load.wait_for(load.ledger.len() + 200).await;
        hub.plant(fault).await;
        let restarts = round as f64 + 1.0;
        hub.wait_for_metric(r#"visnyk_restarts_total{reason="shard"}"#, |n| n == restarts).await;
    }
    load.wait_for(load.ledger.len() + 200).await;
    let ledger = load.end().await;
    assert_exact(followers, &ledger).await;
    hub.wait_for_metric("visnyk_permits_free", |free| free == 64.0).await;
}

// 6. Ack means what it says.

#[tokio::test]
async fn invariant_6_ack_means_that_all_can_read_it() {
    let hub = TestHub::start(&KEEP_ALL).await;
    let address = hub.address();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        writers.spawn(async move {
            let mut publisher = Publisher::new(address);
            let mut reader = Exchange::new(address);
            for n in 0..60 {
                let data = format!("{writer} {n}");
                let id = publisher.publish_acked("a", &data).await.unwrap();
                // Another connection, at once, from the position before it.
                let before = with_seq(&id, seq(&id) - 1);
                let target = format!("/v1/poll?channel=a&timeout=0&limit=1&last_event_id={before}");
                let answer = reader.request("GET", &target, &[], b"", PATIENCE).await.unwrap();
                let event = &answer.json()["events"][0];
                assert_eq!(event["id"].as_str(), Some(id.as_str()), "{}", answer.body);
                assert_eq!(event["data"].as_str(), Some(data.as_str()));
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    assert_eq!(hub.channel("a").await["events_retained"], 480);
}

#[tokio::test]
async fn invariant_6_ack_that_stays_away_leaves_all_or_nothing() {
    let hub = TestHub::start(&KEEP_ALL).await;
    let mut stream = hub.stream("channel=a&channel=end", "now").await;
    // Batches whose publishers hang up before the answer, at different moments.
    for n in 0..60 {
        let data: Vec<String> = (0..20).map(|line| format!("{n} {line}")).collect();
        let body = ndjson(data.iter().map(|data| (None, data.as_str())));
        let request = format!(
            "POST /v1/channels/a/events HTTP/1.1\r\nHost: {}\r\nIdempotency-Key: batch-{n}\r\n\
             Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{body}",
            hub.address(),
            body.len()
        );
        let mut socket = TcpStream::connect(hub.address()).await.unwrap();
        let sent = if n % 3 == 0 { request.len() - 10 } else { request.len() };
        socket.write_all(&request.as_bytes()[..sent]).await.unwrap();
        if n % 3 == 1 {
            socket.set_zero_linger().unwrap();
        }
        drop(socket);
    }
    // Under their keys all of them may be sent again.
    let mut publisher = Publisher::new(hub.address());
    let mut firsts = Vec::new();
    for n in 0..60 {
        let data: Vec<String> = (0..20).map(|line| format!("{n} {line}")).collect();
        let body = ndjson(data.iter().map(|data| (None, data.as_str())));
        let key = format!("batch-{n}");
        let answer = publisher.publish_batch("a", &body, Some(&key)).await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.body);
        let again = publisher.publish_batch("a", &body, Some(&key)).await.unwrap();
        assert_eq!(again.head.field("idempotent-replayed"), Some("true"));
        assert_eq!(again.json(), answer.json(), "the first answer again");
        if n % 3 == 0 {
            assert_eq!(
                answer.head.field("idempotent-replayed"),
                None,
                "half a batch is not a batch"
            );
        }
        firsts.push((seq(answer.json()["first_id"].as_str().unwrap()), n));
    }
    hub.publish("end", "end").await;
    firsts.sort_unstable();
    let expected: Vec<String> = firsts
        .iter()
        .flat_map(|(_, n)| (0..20).map(move |line| format!("{n} {line}")))
        .chain(["end".to_owned()])
        .collect();
    assert_eq!(data_of(&mut stream, 1_201).await, expected);
}

#[tokio::test]
async fn invariant_6_ack_under_a_key_is_for_that_body_alone() {
    let hub = TestHub::start(&[("LIMITS__PUBLISH__IDEMPOTENCY_S", "1")]).await;
    let post = async |body: &'static str| {
        hub.request("POST", "/v1/channels/a/events", &[("Idempotency-Key", "k")], body).await
    };
    let first = post("one").await;
    assert_eq!(first.status(), 201);
    assert_eq!(post("another").await.status(), 422);
    assert_eq!(post("one").await.json(), first.json());
    assert_eq!(hub.retained("channel=a", "earliest").await, ["one"]);
    // After its time the key is free again.
    let deadline = Instant::now() + PATIENCE;
    while post("another").await.status() == 422 {
        assert!(Instant::now() < deadline, "the key is remembered for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(hub.retained("channel=a", "earliest").await, ["one", "another"]);
}

// 7. Isolation. See faults.rs for each kind of actor under load.

#[tokio::test]
async fn invariant_7_isolation_from_malformed_requests_and_stuck_peers() {
    let hub = TestHub::start(&KEEP_ALL).await;
    let channels = Channels::All;
    let neighbour = Follower::start("neighbour", hub.address(), channels, Transports::Sse, 1).await;
    let followers = run_all(vec![(neighbour, 1)]);
    let plan = LoadPlan {
        channels: vec!["a".into()],
        publishers: 2,
        requests_max: usize::MAX,
        pause: Duration::from_millis(1),
        seed: seed(),
    };
    let load = Load::start(hub.address(), &plan);
    let mut stuck = Vec::new();
    let long_head =
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for round in 0..10 {
        for bytes in [
            "\r\n\r\n\0\x01\x02",
            "GET\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /v1/events?channel=%FF HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /v1/events?channel=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n\u{fffd}",
            &long_head,
            "GET /v1/events?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\nand much that a stream has no use for",
            "GET /v1/poll?channel=quiet HTTP/1.1\r\nHost: localhost\r\n\r\n\x03\x04",
        ] {
            let mut socket = TcpStream::connect(hub.address()).await.unwrap();
            // The hub may hang up in the middle.
            let _ = socket.write_all(bytes.as_bytes()).await;
            if round % 2 == 0 {
                stuck.push(socket);
            }
        }
    }
    load.wait_for(load.ledger.len() + 500).await;
    let ledger = load.end().await;
    assert_exact(followers, &ledger).await;
    assert_eq!(hub.metric(r#"visnyk_connections_closed_total{reason="panicked"}"#).await, 0.0);
    drop(stuck);
    let streams = hub.wait_for_metric("visnyk_streams", |streams| streams == 0.0).await;
    assert_eq!(streams, 0.0);
}

#[tokio::test]
async fn invariant_7_isolation_of_a_panicking_connection_and_the_end_by_the_log() {
    let mut hub = TestHub::start(&[("FAULTS", "true")]).await;
    let mut streams = [hub.stream("channel=a", "now").await, hub.stream("channel=a", "now").await];
    hub.plant("connection?channel=a").await;
    // Wait for it to be planted on either shard, then let it strike.
    hub.wait_for_line("planting", PATIENCE).await.unwrap();
    let mut published = 0;
    let panicked = r#"visnyk_connections_closed_total{reason="panicked"}"#;
    while hub.metric(panicked).await == 0.0 {
        hub.publish("a", &published.to_string()).await;
        published += 1;
    }
    hub.publish("a", "last").await;
    let mut ended = 0;
    for stream in &mut streams {
        loop {
            match stream.next_event(PATIENCE).await.unwrap() {
                Some(Block { data, .. }) if data.as_deref() == Some("last") => break,
                Some(_) => {}
                None => {
                    ended += 1;
                    break;
                }
            }
        }
    }
    assert_eq!(ended, 1, "one of the two");
    hub.plant("log").await;
    let status = hub.wait(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(1), "{}", hub.stderr());
}

// 8. Drain. See drain.rs for many streams.

#[tokio::test]
async fn invariant_8_drain_ends_each_stream_and_poll_in_good_order() {
    let mut hub = TestHub::start(&[("DRAIN_WINDOW_S", "2")]).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(hub.stream("channel=a", "now").await);
    }
    let mut poll = PollClient::new(hub.address(), "/v1/poll?channel=quiet&timeout=60");
    let polling = tokio::spawn(async move { poll.next(PATIENCE).await });
    hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 1.0).await;
    let last = hub.publish("a", "acknowledged").await;
    hub.terminate().unwrap();
    let mut retries = std::collections::HashSet::new();
    for mut stream in streams {
        assert_eq!(data_of(&mut stream, 1).await, ["acknowledged"]);
        let words = stream.next_block(PATIENCE).await.unwrap().expect("last words");
        retries.insert(words.retry_ms.expect("a reconnection time"));
        assert_eq!(stream.next_block(PATIENCE).await.unwrap(), None, "and the end");
        assert_eq!(stream.position(), Some(last.as_str()), "where to go on");
    }
    assert!(retries.len() > 10, "each its own: {retries:?}");
    assert_eq!(polling.await.unwrap().unwrap().answer.status(), 204);
    let status = hub.wait(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
}
