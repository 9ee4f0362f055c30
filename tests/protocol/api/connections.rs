//! `/v1/connections`: what connections are doing, and why they ended.

use std::time::Instant;

use serde_json::{Value, json};
use visnyk_loadtest::{Hub, SseClient, SseRequest};

use super::{
    batch, field, is_time,
    wire::{PATIENCE, Wire, ask, get, hub, metric_is, nothing_is_left, published, request},
};

async fn page(hub: &Hub, query: &str) -> Value {
    let answer = ask(hub, get(&format!("/v1/connections?{query}"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn listed(hub: &Hub, query: &str) -> Vec<Value> {
    page(hub, query).await["connections"].as_array().unwrap().clone()
}

/// Asks until exactly one connection is found.
async fn the_one(hub: &Hub, query: &str) -> Value {
    loop {
        let mut found = listed(hub, query).await;
        assert!(found.len() <= 1, "{found:?}");
        if let Some(one) = found.pop() {
            return one;
        }
    }
}

async fn stream(hub: &Hub, target: &str) -> (Wire, String) {
    let mut wire = Wire::to(hub).await;
    wire.send(get(target)).await;
    let (_, first) = wire.stream_head().await;
    (wire, first)
}

/// The id that `hello=1` tells.
async fn greeted(hub: &Hub, query: &str) -> (Wire, String) {
    let (mut wire, _) = stream(hub, &format!("/v1/events?hello=1&{query}")).await;
    let hello = wire.block().await;
    assert_eq!(field(&hello, "event"), "visnyk.hello");
    let data: Value = serde_json::from_str(field(&hello, "data")).unwrap();
    (wire, data["connection"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_live_stream_is_explained() {
    let hub = hub(&[("limits.connections.age_max_s", "1000")]).await;
    let (mut wire, id) = greeted(&hub, "channel=a/b&channel=c/*&type=t&slow=skip").await;
    let other = published(&hub, "a%2Fb", "of another type").await;
    let (target, asked) = (format!("/v1/connections/{id}"), Instant::now());
    // An event of another type moves it on all the same, once it has come to its shard.
    let mut found = loop {
        let found = ask(&hub, get(&target)).await.json();
        if found["position"] == other {
            break found;
        }
        assert!(asked.elapsed() < PATIENCE, "{found}");
    };
    assert_eq!(listed(&hub, "").await.len(), 1);
    assert!(is_time(&found["ends_at"]), "{found}");
    assert!(found["age_s"].as_u64().unwrap() < 60, "{found}");
    assert!(found["idle_ms"].as_u64().unwrap() < 60_000, "{found}");
    let peer = found["peer"].as_str().unwrap().parse::<std::net::SocketAddr>().unwrap();
    assert!(peer.ip().is_loopback() && peer.port() != hub.address().port(), "{found}");
    assert!(found["shard"].as_u64().unwrap() < 2);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("it has a name");
    assert_eq!(found["node"], host.trim_end());
    assert!(found["sent_bytes"].as_u64().unwrap() > 200, "head and first block: {found}");
    assert!(found["bytes_per_s"].is_u64(), "{found}");
    for volatile in [
        "sent_bytes",
        "bytes_per_s",
        "age_s",
        "idle_ms",
        "peer",
        "shard",
        "ends_at",
        "ends_for",
        "position",
        "node",
    ] {
        found.as_object_mut().unwrap().remove(volatile);
    }
    let expected = json!({
        "id": id,
        "state": "live",
        "transport": "sse",
        "channels": ["a/b"],
        "patterns": ["c/*"],
        "subscriptions": 2,
        "types": ["t"],
        "lag_events": 0,
        "lag_bytes": 0,
        "lag_events_max": 1_000,
        "lag_bytes_max": 262_144,
        "unsent_bytes": 0,
        "stalls_at": null,
        "policy": "skip",
        "identity": null,
    });
    assert_eq!(found, expected);
    // It is still served.
    let answer = ask(&hub, request("POST", "/v1/channels/a%2Fb/events?type=t", &[], "y")).await;
    let id = answer.json()["id"].clone();
    assert_eq!(field(&wire.block().await, "id"), id.as_str().unwrap());
    let position = listed(&hub, "").await[0]["position"].clone();
    assert_eq!(position, id);
}

#[tokio::test]
async fn a_waiting_poll_is_explained() {
    let hub = hub(&[]).await;
    let mut poll = Wire::to(&hub).await;
    poll.send(get("/v1/channels/a/poll?timeout=60")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    let found = the_one(&hub, "transport=poll").await;
    assert_eq!(found["transport"], "poll");
    assert_eq!((&found["state"], &found["channels"]), (&json!("live"), &json!(["a"])));
    assert!(is_time(&found["ends_at"]) && found["ends_for"] == "deadline", "{found}");
    assert!(listed(&hub, "transport=sse").await.is_empty());
    let totals = page(&hub, "").await["totals"].clone();
    assert_eq!((&totals["polls"], &totals["streams"]), (&json!(1), &json!(0)));

    // An answered poll is not remembered.
    published(&hub, "a", "x").await;
    assert_eq!(poll.answer().await.status, 200);
    nothing_is_left(&hub).await;
    assert!(listed(&hub, "").await.is_empty() && listed(&hub, "state=closed").await.is_empty());
}

#[tokio::test]
async fn a_slow_reader_is_behind_by_what_it_has_not_been_sent() {
    let settings = [
        ("limits.connections.send_buffer_bytes", "1"),
        ("limits.connections.lag_bytes_max", "100000000"),
        ("limits.history.bytes_max", "100000000"),
    ];
    let hub = hub(&settings).await;
    let (_live, live) = greeted(&hub, "channel=other").await;
    let request = SseRequest::new("/v1/events?channel=a").receive_buffer_bytes(1);
    let mut slow = SseClient::connect(hub.address(), &request).await.unwrap();
    slow.next_block(PATIENCE).await.unwrap().unwrap();
    let lines = format!("{{\"data\":\"{}\"}}\n", "x".repeat(20_000)).repeat(5);
    let mut head = String::new();
    for _ in 0..20 {
        let answer = ask(&hub, batch("/v1/channels/a/events", &lines)).await;
        head = answer.json()["last_id"].as_str().unwrap().to_owned();
    }
    let seq = |position: &Value| position.as_str().unwrap().rsplit_once('-').unwrap().1.to_owned();
    let seq = |position: &Value| seq(position).parse::<u64>().unwrap();
    let head = seq(&json!(head));
    // Its kernel still takes bytes for a moment.
    let found = loop {
        let found = the_one(&hub, "state=behind").await;
        if found["lag_events"] == json!(head - seq(&found["position"])) {
            break found;
        }
    };
    assert_eq!((&found["reason"], &found["channels"]), (&json!("blocked"), &json!(["a"])));
    let position = seq(&found["position"]);
    assert!(position < head - 10, "{found}");
    let frame = |seq: u64| {
        let id = found["position"].as_str().unwrap().rsplit_once('-').unwrap().0.to_owned();
        let text = format!("data: {}\nid: {id}-{seq}\n\n", "x".repeat(20_000));
        format!("{:08x}\r\n{text}\r\n", text.len()).len() as u64
    };
    let due: u64 = (position + 1..=head).map(frame).sum();
    assert_eq!(found["lag_bytes"], due, "{found}");
    let unsent = found["unsent_bytes"].as_u64().unwrap();
    assert!((1..frame(position)).contains(&unsent), "{found}");
    assert!(is_time(&found["stalls_at"]) && found["lag_bytes_max"].as_u64() > Some(99_999_999));
    let lives = listed(&hub, "state=live").await;
    assert_eq!((lives.len(), &lives[0]["id"]), (1, &json!(live)));
    // Shards count those that are behind about once a second.
    metric_is(&hub, "visnyk_lag_events", found["lag_events"].as_u64().unwrap()).await;
    let totals = page(&hub, "").await["totals"].clone();
    let none_else = json!({ "blocked": 1, "replaying": 0, "catching_up": 0, "ending": 0 });
    assert_eq!((&totals["behind"], &totals["lag_events"]), (&none_else, &found["lag_events"]));

    // When it reads at last, it is live again.
    while slow.position().is_none_or(|at| seq(&json!(at)) < head) {
        slow.next_event(PATIENCE).await.unwrap().unwrap();
    }
    while !listed(&hub, "state=behind").await.is_empty() {}
    let id = found["id"].as_str().unwrap();
    let found = ask(&hub, get(&format!("/v1/connections/{id}"))).await.json();
    let figures = ["lag_events", "lag_bytes", "unsent_bytes"].map(|name| found[name].clone());
    assert_eq!((&found["state"], figures), (&json!("live"), [json!(0), json!(0), json!(0)]));
    metric_is(&hub, r#"visnyk_connections_behind{state="blocked"}"#, 0).await;
    metric_is(&hub, "visnyk_lag_events", 0).await;
}

#[tokio::test]
async fn why_a_connection_ended_is_remembered() {
    let settings = [
        ("limits.connections.send_buffer_bytes", "1"),
        ("limits.connections.lag_events_max", "10"),
    ];
    let hub = hub(&settings).await;
    published(&hub, "shut", "x").await;
    let (left, left_id) = greeted(&hub, "channel=left").await;
    drop(left);
    let (mut shut, shut_id) = greeted(&hub, "channel=shut").await;
    ask(&hub, request("DELETE", "/v1/channels/shut", &[], "")).await;
    assert!(shut.block().await.contains("visnyk.closed"));
    let (mut talks, talks_id) = greeted(&hub, "channel=talks").await;
    // More than it may say, whenever it is reset.
    while talks.try_send([b'x'; 4096]).await.is_ok() {}
    let request = SseRequest::new("/v1/events?channel=slow&hello=1").receive_buffer_bytes(1);
    let mut slow = SseClient::connect(hub.address(), &request).await.unwrap();
    slow.next_block(PATIENCE).await.unwrap().unwrap();
    let hello = slow.next_block(PATIENCE).await.unwrap().unwrap();
    let hello: Value = serde_json::from_str(&hello.data.unwrap()).unwrap();
    let lines = format!("{{\"data\":\"{}\"}}\n", "x".repeat(20_000)).repeat(5);
    while !listed(&hub, "channel=slow").await.is_empty() {
        ask(&hub, batch("/v1/channels/slow/events", &lines)).await;
    }
    nothing_is_left(&hub).await;

    for (id, reason) in [
        (left_id.as_str(), "peer_closed"),
        (&shut_id, "channel_closed"),
        (&talks_id, "unexpected_input"),
        (hello["connection"].as_str().unwrap(), "slow_consumer"),
    ] {
        let ended = ask(&hub, get(&format!("/v1/connections/{id}"))).await.json();
        assert_eq!((&ended["state"], &ended["reason"]), (&json!("closed"), &json!(reason)));
        assert!(is_time(&ended["ended_at"]) && ended["ends_at"].is_null(), "{ended}");
        let is_slow = reason == "slow_consumer";
        assert_eq!(ended["lag_events"].as_u64().unwrap() > 10, is_slow, "{ended}");
    }

    // Newest first, filtered, page by page.
    let all = listed(&hub, "state=closed").await;
    let mut times: Vec<&str> = all.iter().map(|end| end["ended_at"].as_str().unwrap()).collect();
    assert_eq!(all.len(), 4);
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    times.dedup();
    let only = listed(&hub, "state=closed&channel=talks").await;
    assert_eq!((only.len(), &only[0]["id"]), (1, &json!(talks_id)));
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = page(&hub, &format!("state=closed&limit=1{after}")).await;
        paged.extend(page["connections"].as_array().unwrap().iter().map(|end| end["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, all.iter().map(|end| end["id"].clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_administrator_ends_a_stream_and_a_waiting_poll() {
    let hub = hub(&[]).await;
    let (mut wire, id) = greeted(&hub, "channel=a").await;
    let end = |id: &str| request("DELETE", &format!("/v1/connections/{id}"), &[], "");
    assert_eq!(ask(&hub, end(&id)).await.status, 204);
    let last = wire.block().await;
    let retry = last.strip_prefix(": ended by an administrator\nretry: ").unwrap_or_default();
    let retry_ms = retry.trim_end().parse::<u32>().unwrap_or_default();
    assert!((2_000..=4_000).contains(&retry_ms), "{last:?}");
    // Its client is to come back, so it gets no last chunk.
    assert_eq!(wire.rest().await, b"");

    let mut poll = Wire::to(&hub).await;
    poll.send(get("/v1/channels/a/poll?timeout=60")).await;
    let waiting = the_one(&hub, "transport=poll").await["id"].as_str().unwrap().to_owned();
    assert_eq!(ask(&hub, end(&waiting)).await.status, 204);
    let answer = poll.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (204, "close"), "{answer:?}");
    assert!(answer.field("last-event-id").ends_with("-0"), "{answer:?}");
    poll.closed().await;

    let closed = "visnyk_connections_closed_total{reason=\"ended_by_admin\"}";
    metric_is(&hub, closed, 2).await;
    nothing_is_left(&hub).await;
    for id in [&*id, &waiting, "77", "x"] {
        let answer = ask(&hub, end(id)).await;
        assert_eq!(answer.status, 404, "{answer:?}");
        assert_eq!(answer.problem()["connection"], id);
        let has_ended = format!("connection `{id}` has ended: ended_by_admin, at 20");
        let says_so = answer.problem()["detail"].as_str().unwrap().starts_with(&has_ended);
        assert_eq!(says_so, id.parse::<u64>().is_ok_and(|id| id != 77), "{answer:?}");
    }
    for id in [id, waiting] {
        let ended = ask(&hub, get(&format!("/v1/connections/{id}"))).await.json();
        assert_eq!(ended["reason"], "ended_by_admin", "{ended}");
    }
}

#[tokio::test]
async fn connections_are_listed_page_by_page_each_once() {
    let hub = hub(&[]).await;
    let mut streams = Vec::new();
    for number in 0..40 {
        streams.push(stream(&hub, &format!("/v1/channels/c{number}/events")).await.0);
    }
    for limit in [1, 7, 40, 1000] {
        let (mut after, mut channels) = (String::new(), Vec::new());
        loop {
            let page = page(&hub, &format!("limit={limit}{after}")).await;
            let connections = page["connections"].as_array().unwrap();
            assert!(connections.len() <= limit && page.get("unanswered_shards").is_none());
            channels.extend(connections.iter().map(|c| c["channels"][0].clone()));
            assert_eq!(page["totals"]["streams"], 40);
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        let mut expected: Vec<Value> = (0..40).map(|n| json!(format!("c{n}"))).collect();
        let by_text = |value: &Value| value.as_str().unwrap().to_owned();
        expected.sort_by_key(by_text);
        channels.sort_by_key(by_text);
        assert_eq!(channels, expected, "limit {limit}");
    }
}

#[tokio::test]
async fn a_channel_finds_those_that_receive_it() {
    let hub = hub(&[]).await;
    let _streams = [
        stream(&hub, "/v1/events?channel=a/b").await,
        stream(&hub, "/v1/events?channel=a/b&channel=x").await,
        stream(&hub, "/v1/events?channel=a/**").await,
        stream(&hub, "/v1/events?channel=c").await,
    ];
    for (channel, count) in [("a/b", 3), ("a/z", 1), ("x", 1), ("c", 1), ("none", 0)] {
        let found = listed(&hub, &format!("channel={channel}")).await;
        assert_eq!(found.len(), count, "{channel}: {found:?}");
    }
}

#[tokio::test]
async fn a_page_lists_a_few_channels_of_each_and_the_connection_itself_all() {
    let hub = hub(&[]).await;
    let query: Vec<String> = (0..100).map(|number| format!("channel=c{number}")).collect();
    let (_wire, id) = greeted(&hub, &query.join("&")).await;
    let found = the_one(&hub, "").await;
    assert_eq!(
        (found["channels"].as_array().unwrap().len(), &found["subscriptions"]),
        (16, &json!(100))
    );
    let found = ask(&hub, get(&format!("/v1/connections/{id}"))).await.json();
    assert_eq!(found["channels"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_is_malformed_400() {
    let hub = hub(&[]).await;
    for id in ["7", "x", "-1", "+1", "99999999999999999999"] {
        let answer = ask(&hub, get(&format!("/v1/connections/{id}"))).await;
        assert_eq!(answer.status, 404, "{id}");
        assert_eq!(answer.problem()["connection"], id);
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("state=x", "state"),
        ("transport=x", "transport"),
        ("channel=a//b", "channel"),
        ("channel=a/*", "channel"),
        ("after=x", "after"),
        ("after=1", "after"),
        ("after=1.x", "after"),
        ("after=1.99999999999", "after"),
        ("state=closed&after=x", "after"),
    ] {
        ask(&hub, get(&format!("/v1/connections?{query}"))).await.refuses(400, field);
    }
    // An index past the last is the end.
    assert!(listed(&hub, "after=9.9").await.is_empty());
}

#[tokio::test]
async fn streams_of_a_small_channel_live_together_and_those_of_a_large_one_on_every_shard() {
    let hub = hub(&[]).await;
    let mut streams = Vec::new();
    let by_shard = async |hub: &Hub| {
        let mut counts = [0, 0];
        for found in listed(hub, "limit=1000").await {
            counts[found["shard"].as_u64().unwrap() as usize] += 1;
        }
        counts
    };
    // As many as live together, and as many again.
    for round in 1..=2 {
        for _ in 0..64 {
            streams.push(stream(&hub, "/v1/channels/c/events").await.0);
        }
        let counts = by_shard(&hub).await;
        assert_eq!(counts.iter().sum::<u64>(), 64 * round);
        // Half of those that came late live on the other shard, give or take what chance does.
        let elsewhere = *counts.iter().min().unwrap();
        assert!(if round == 1 { elsewhere == 0 } else { elsewhere > 8 }, "{counts:?}");
        let id = published(&hub, "c", "to all").await;
        for wire in &mut streams {
            assert_eq!(field(&wire.block().await, "id"), id);
        }
    }
    // Streams that leave do not leave others behind.
    streams.drain(1..);
    metric_is(&hub, "visnyk_streams", 1).await;
    let id = published(&hub, "c", "to one").await;
    assert_eq!(field(&streams[0].block().await, "id"), id);
}
