//! Server-Sent Events: the answer's head, blocks and their fields, formats, filters, positions.

use serde_json::json;

use super::{
    data_json, field, is_time,
    wire::{Wire, ask, get, hub, post, publish, published, request},
};

#[tokio::test]
async fn a_stream_begins_with_its_head_and_a_first_block() {
    let hub = hub(&[]).await;
    let mut retries = Vec::new();
    for target in ["/v1/channels/a/events", "/v1/events?channel=a&channel=b/**"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        let (head, first) = wire.stream_head().await;
        assert_eq!(head.version, "HTTP/1.1");
        for (name, value) in [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "private, no-cache, no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("x-content-type-options", "nosniff"),
            ("vary", "Origin"),
            ("transfer-encoding", "chunked"),
        ] {
            assert_eq!(head.field(name), value);
        }
        assert!(head.field("date").ends_with(" GMT"), "{head:?}");
        assert!(!head.has("content-length") && !head.has("connection"), "{head:?}");
        let lines: Vec<&str> = first.lines().collect();
        assert!(lines[0].starts_with(": ") && lines[1].starts_with("retry: "), "{first}");
        assert!(lines[2].starts_with("id: ") && lines[3..] == [""], "{first}");
        retries.push(field(&first, "retry").parse::<u32>().unwrap());
    }
    assert!(retries.iter().all(|retry| (2_000..=4_000).contains(retry)), "{retries:?}");
}

#[tokio::test]
async fn the_first_block_is_a_position_from_which_nothing_is_lost() {
    let hub = hub(&[]).await;
    published(&hub, "a", "before").await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/events")).await;
    let (_, first) = wire.stream_head().await;
    drop(wire);
    published(&hub, "a", "while away").await;
    let mut wire = Wire::to(&hub).await;
    let position = [("Last-Event-ID", field(&first, "id"))];
    wire.send(request("GET", "/v1/channels/a/events", &position, "")).await;
    wire.stream_head().await;
    assert!(wire.block().await.starts_with("data: while away\n"));
}

#[tokio::test]
async fn the_head_comes_only_when_the_subscription_is_registered() {
    let hub = hub(&[]).await;
    for n in 0..50 {
        let mut wire = Wire::to(&hub).await;
        wire.send(get("/v1/channels/a/events")).await;
        wire.head().await;
        // A client with the head gets every event published from then on.
        published(&hub, "a", &n.to_string()).await;
        wire.block().await;
        assert!(wire.block().await.starts_with(&format!("data: {n}\n")));
    }
}

#[tokio::test]
async fn the_ways_to_give_a_position_and_their_order() {
    let hub = hub(&[]).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(published(&hub, "a", &n.to_string()).await);
    }
    let header = |n: usize| [("Last-Event-ID", ids[n].as_str())];
    for (fields, query, first) in [
        (&header(0)[..], String::new(), 1),
        (&header(1), format!("?last_event_id={}", ids[0]), 2),
        (&[], format!("?last_event_id=earliest&lastEventId={}", ids[2]), 3),
        (&[], format!("?lastEventId={}&last_event_id={}", ids[2], ids[0]), 3),
        (&[], format!("?lastEventId={}&lastEventID={}", ids[0], ids[1]), 2),
        (&[], format!("?lastEventId={}&lastEventId={}", ids[0], ids[1]), 2),
        (&[], format!("?last_event_id=&lastEventId={}", ids[1]), 2),
        (&[], format!("?last_event_id={}&lastEventId=", ids[1]), 2),
        (&[], format!("?lastEventID={}", ids[0]), 1),
        (&[("Last-Event-ID", "")], format!("?last_event_id={}", ids[1]), 2),
        (&[], "?last_event_id=earliest".to_owned(), 0),
        (&[("Last-Event-ID", "earliest")], String::new(), 0),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", &format!("/v1/channels/a/events{query}"), fields, "")).await;
        wire.stream_head().await;
        for (n, id) in ids.iter().enumerate().skip(first) {
            assert_eq!(wire.block().await, format!("data: {n}\nid: {id}\n\n"), "{query}");
        }
    }
    for (fields, query) in
        [(&[][..], ""), (&[], "?last_event_id=now"), (&[("Last-Event-ID", "now")], "")]
    {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", &format!("/v1/channels/a/events{query}"), fields, "")).await;
        let (_, first) = wire.stream_head().await;
        assert_eq!(field(&first, "id"), ids[3], "it starts at the newest event");
        let id = published(&hub, "a", "live").await;
        assert_eq!(wire.block().await, format!("data: live\nid: {id}\n\n"));
        ids[3] = id;
    }
}

#[tokio::test]
async fn an_id_of_another_server_is_answered_with_a_gap_and_never_refused() {
    let hub = hub(&[]).await;
    let id = published(&hub, "a", "1").await;
    ask(&hub, post("/publish", r#"{"message":"1"}"#)).await;
    let long = "x".repeat(20_000);
    for (foreign, requested) in [
        (&b"urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb"[..], None),
        ("\"\u{434}\u{430}\" <b>".as_bytes(), None),
        (b"a, b", None),
        (b"\xff\xfe", Some("\u{fffd}\u{fffd}")),
        (long.as_bytes(), Some(&long[..64])),
    ] {
        let requested =
            requested.unwrap_or_else(|| std::str::from_utf8(foreign).expect("as it was sent"));
        // Read by the hub itself, and, with a field that it leaves to it, by its HTTP server.
        for (target, more) in [
            ("/v1/channels/a/events", ""),
            ("/v1/channels/a/events", "TE: trailers\r\n"),
            ("/v1/events?channel=**&hello=1", ""),
            ("/events", ""),
        ] {
            let mut wire = Wire::to(&hub).await;
            let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}");
            let last = [b"Last-Event-ID: ", foreign, b"\r\n\r\n"].concat();
            wire.send([head.as_bytes(), &last].concat()).await;
            let (_, first) = wire.stream_head().await;
            assert!(!first.contains("\nid: "), "what the client has stays until the gap: {first}");
            let mut gap = wire.block().await;
            if target.ends_with("hello=1") {
                gap = wire.block().await;
            }
            let data = data_json(&gap);
            assert_eq!(field(&gap, "event"), "visnyk.gap");
            assert_eq!(data["reason"], "unknown_position", "{target}");
            assert_eq!(data["requested"], requested, "{target}");
            assert_eq!(data["oldest"], field(&gap, "id"));
            assert!(wire.block().await.starts_with("data: "), "and all that there is");
        }
    }
    // A client of a page that was written for another server adds it to the query.
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/events?last_event_id=earliest&lastEventId=a%20b")).await;
    wire.stream_head().await;
    assert!(wire.block().await.contains("unknown_position"));
    assert_eq!(wire.block().await, format!("data: 1\nid: {id}\n\n"));
}

#[tokio::test]
async fn envelopes_keep_the_type_and_messages_hide_it() {
    let hub = hub(&[]).await;
    ask(&hub, post("/v1/events?channel=a/b&type=paid&retry=5", "1\n2")).await;
    ask(&hub, post("/v1/events?channel=a/b", "{\"x\":\"\u{1F600}\"}")).await;
    for (format, event) in [("envelope", "event: paid\n"), ("message", "")] {
        let mut wire = Wire::to(&hub).await;
        let query = format!("format={format}&last_event_id=earliest");
        wire.send(get(&format!("/v1/events?channel=a/b&{query}"))).await;
        wire.stream_head().await;
        for (event, event_type, data) in
            [(event, "paid", "1\n2"), ("", "message", "{\"x\":\"\u{1F600}\"}")]
        {
            let block = wire.block().await;
            assert!(block.starts_with(&format!("{event}data: {{")), "{format}: {block}");
            let mut envelope = data_json(&block);
            assert_eq!(envelope["id"], field(&block, "id"));
            assert!(is_time(&envelope["time"]), "{envelope}");
            for member in ["id", "time"] {
                envelope.as_object_mut().unwrap().remove(member);
            }
            assert_eq!(envelope, json!({"channel": "a/b", "type": event_type, "data": data}));
        }
    }
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/events?channel=a/b&format=data&last_event_id=earliest")).await;
    wire.stream_head().await;
    assert!(wire.block().await.starts_with("event: paid\nretry: 5\ndata: 1\ndata: 2\nid: "));
}

#[tokio::test]
async fn types_are_filtered_live_and_in_replay() {
    let hub = hub(&[]).await;
    let types = ["a", "b", "", "c", "message"];
    let publish_all = async || {
        for event_type in types {
            let query = if event_type.is_empty() { "" } else { &format!("?type={event_type}") };
            ask(&hub, post(&format!("/v1/channels/x/events{query}"), event_type)).await;
        }
    };
    publish_all().await;
    for (filter, expected) in [
        ("type=a", vec!["a"]),
        ("type=a&type=c&type=a", vec!["a", "c"]),
        // An event without a type is a message.
        ("type=message", vec!["", "message"]),
        ("type=none", vec![]),
        ("", types.to_vec()),
    ] {
        let mut wire = Wire::to(&hub).await;
        let query = format!("{filter}&last_event_id=earliest");
        // First the replay of all rounds so far, then a live one.
        wire.send(get(&format!("/v1/channels/x/events?{query}"))).await;
        wire.stream_head().await;
        publish_all().await;
        let mut poll = Wire::to(&hub).await;
        poll.send(get(&format!("/v1/channels/x/poll?{query}&timeout=0&limit=1000"))).await;
        let polled = poll.answer().await;
        if expected.is_empty() {
            assert_eq!(polled.status, 204);
            continue;
        }
        let events = polled.json()["events"].as_array().unwrap().clone();
        assert!(events.len() > expected.len() && events.len() % expected.len() == 0);
        for (n, event) in events.iter().enumerate() {
            assert_eq!(event["data"], expected[n % expected.len()], "{filter}");
            let block = wire.block().await;
            assert_eq!(field(&block, "id"), event["id"], "{filter}: {block}");
        }
    }
}

#[tokio::test]
async fn a_filter_moves_the_position_past_what_it_hides() {
    let hub = hub(&[("limits.connections.heartbeat_s", "1")]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/x/events?type=seen")).await;
    wire.stream_head().await;
    published(&hub, "x", "hidden").await;
    assert_eq!(wire.block().await, HEARTBEAT);
    let hidden = published_many(&hub, "x").await;
    assert_eq!(after_heartbeats(&mut wire).await, format!("id: {hidden}\n\n"));
    let answer = ask(&hub, post("/v1/channels/x/events?type=seen", "x")).await;
    let seen = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(wire.block().await, format!("event: seen\ndata: x\nid: {seen}\n\n"));
}

#[tokio::test]
async fn heartbeats_are_comments_and_move_a_position_that_is_far_behind_on() {
    let hub = hub(&[("limits.connections.heartbeat_s", "1")]).await;
    let mut wires = Vec::new();
    for target in ["/v1/channels/quiet/events", "/v1/events?channel=quiet&channel=still/*"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        wire.stream_head().await;
        wires.push(wire);
    }
    published(&hub, "loud", "x").await;
    for wire in &mut wires {
        assert_eq!(wire.block().await, HEARTBEAT);
        assert_eq!(wire.block().await, HEARTBEAT);
    }
    let elsewhere = published_many(&hub, "loud").await;
    for mut wire in wires {
        assert_eq!(after_heartbeats(&mut wire).await, format!("id: {elsewhere}\n\n"));
        assert_eq!(wire.block().await, HEARTBEAT);
    }
}

/// Publishes so many events that a heartbeat tells positions from before; gives the last id.
async fn published_many(hub: &visnyk_loadtest::Hub, channel: &str) -> String {
    let lines = "{\"data\":0}\n".repeat(4_097 / 17);
    let mut last = String::new();
    for _ in 0..17 {
        let fields = [("Content-Type", "application/x-ndjson")];
        let target = format!("/v1/channels/{channel}/events");
        let answer = ask(hub, request("POST", &target, &fields, &lines)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        last = answer.json()["last_id"].as_str().unwrap().to_owned();
    }
    last
}

/// The next block that is not a heartbeat.
async fn after_heartbeats(wire: &mut Wire) -> String {
    loop {
        let block = wire.block().await;
        if block != HEARTBEAT {
            return block;
        }
    }
}

const HEARTBEAT: &str = ":\n";

#[tokio::test]
async fn hello_names_the_connection() {
    let hub = hub(&[]).await;
    let mut names = Vec::new();
    for target in ["/v1/channels/a/events?hello=1", "/v1/events?channel=**&hello=1"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        wire.stream_head().await;
        let block = wire.block().await;
        assert!(block.starts_with("event: visnyk.hello\ndata: {"), "{block}");
        names.push(data_json(&block)["connection"].as_str().unwrap().to_owned());
    }
    assert_ne!(names[0], names[1]);
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/events?hello=0")).await;
    wire.stream_head().await;
    published(&hub, "a", "x").await;
    assert!(wire.block().await.starts_with("data: x\n"));
}

#[tokio::test]
async fn patterns_and_names_deliver_each_event_once_in_log_order() {
    let hub = hub(&[]).await;
    let channels = ["a", "a/b", "a/b/c", "x", "a/c", "x/b", "a"];
    for channel in ["a", "a/b"] {
        ask(&hub, post(&format!("/v1/events?channel={channel}"), "before")).await;
    }
    let cases: [(&str, &[&str]); 7] = [
        ("channel=a/*", &["a/b", "a/c"]),
        ("channel=a/**", &["a", "a/b", "a/b/c", "a/c", "a"]),
        ("channel=**", &channels),
        ("channel=*/b", &["a/b", "x/b"]),
        ("channel=**/b/**", &["a/b", "a/b/c", "x/b"]),
        ("channel=a&channel=a&channel=a/**&channel=**&channel=a/b", &channels),
        ("channel=x&channel=a", &["a", "x", "a"]),
    ];
    let mut wires = Vec::new();
    for (query, _) in cases {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/events?{query}&format=message"))).await;
        wire.stream_head().await;
        wires.push(wire);
    }
    // Some of these channels are created now.
    for channel in channels {
        ask(&hub, post(&format!("/v1/events?channel={channel}"), "live")).await;
    }
    for (mut wire, (query, expected)) in wires.into_iter().zip(cases) {
        for channel in expected {
            let envelope = data_json(&wire.block().await);
            assert_eq!(
                (&envelope["channel"], &envelope["data"]),
                (&json!(channel), &json!("live")),
                "{query}"
            );
        }
    }
    // A pattern in the path, and the replay of a pattern.
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a%2F**/events?last_event_id=earliest&format=message")).await;
    wire.stream_head().await;
    for channel in ["a", "a/b", "a", "a/b", "a/b/c", "a/c", "a"] {
        assert_eq!(data_json(&wire.block().await)["channel"], channel);
    }
}

#[tokio::test]
async fn a_gap_is_sent_right_after_the_first_block() {
    let hub = hub(&[("limits.history.events_max", "2")]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(published(&hub, "a", &n.to_string()).await);
    }
    for (position, reason) in [
        (&*ids[0], "evicted"),
        ("zzzzzzzz-3", "epoch"),
        ("who.knows_WHAT-this", "unknown_position"),
        ("1", "unknown_position"),
    ] {
        let mut wire = Wire::to(&hub).await;
        let fields = [("Last-Event-ID", position)];
        wire.send(request("GET", "/v1/channels/a/events", &fields, "")).await;
        wire.stream_head().await;
        let gap = wire.block().await;
        assert!(gap.starts_with("event: visnyk.gap\ndata: {"), "{gap}");
        let mut notice = data_json(&gap);
        assert_eq!(notice["oldest"], ids[2], "the last that is gone: {notice}");
        assert_eq!(field(&gap, "id"), ids[2]);
        let channel = notice.as_object_mut().unwrap().remove("channel");
        assert!(channel.is_none_or(|channel| channel == "a"));
        assert_eq!(notice, json!({"reason": reason, "requested": position, "oldest": ids[2]}));
        for n in [3, 4] {
            assert_eq!(wire.block().await, format!("data: {n}\nid: {}\n\n", ids[n]));
        }
    }
    // A channel that has lost some says so to a stream from the earliest too.
    for (channel, truncated) in [("a", true), ("whole", false)] {
        published(&hub, channel, "last").await;
        let info = ask(&hub, get(&format!("/v1/channels/{channel}"))).await.json();
        assert_eq!(info["truncated"], truncated, "{info}");
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/channels/{channel}/events?last_event_id=earliest&hello=1")))
            .await;
        wire.stream_head().await;
        let hello = data_json(&wire.block().await);
        assert_eq!(hello.get("truncated").is_some(), truncated, "{hello}");
    }
}

#[tokio::test]
async fn a_comment_names_near_misses_of_parameters_and_none_is_refused() {
    let hub = hub(&[]).await;
    for (target, said) in [
        ("/v1/channels/a/events?typ=x", Some("`typ`: did you mean `type`?")),
        ("/v1/events?channel=a/*&chanel=b&typ=x", Some("`chanel`: did you mean `channel`?")),
        ("/v1/channels/a/events?last-event-id=earliest", Some("did you mean `last_event_id`?")),
        ("/v1/channels/a/events?type%0A%0Adata=x", None),
        ("/v1/channels/a/events?type%0A=x", Some("`type\\n`: did you mean `type`?")),
        ("/events?lst=5", Some("`lst`: did you mean `last`?")),
        ("/v1/channels/a/events?utm_source=mail&_=17&type=x&last=5", None),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        let (_, first) = wire.stream_head().await;
        let comments: Vec<_> = first.lines().filter(|line| line.starts_with(':')).collect();
        assert_eq!(comments[0], ": visnyk");
        let comment = comments.get(1).copied();
        assert_eq!(comment.is_some(), said.is_some(), "{target}: {first}");
        assert!(comment.unwrap_or_default().ends_with(said.unwrap_or_default()), "{first}");
        assert!(!field(&first, "id").is_empty() && !field(&first, "retry").is_empty());
    }
    // A poll has no comments, and is not refused either.
    assert_eq!(ask(&hub, get("/v1/channels/a/poll?typ=x&timeout=0")).await.status, 204);
}

#[tokio::test]
async fn nothing_is_missing_after_the_last_evicted_event() {
    let hub = hub(&[("limits.history.events_max", "2")]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(published(&hub, "a", &n.to_string()).await);
    }
    // Nor is anything promised from the earliest.
    for position in [&*ids[2], "earliest"] {
        let mut wire = Wire::to(&hub).await;
        let fields = [("Last-Event-ID", position)];
        wire.send(request("GET", "/v1/channels/a/events", &fields, "")).await;
        wire.stream_head().await;
        assert!(wire.block().await.starts_with("data: 3\n"));
    }
}

#[tokio::test]
async fn many_events_come_in_order_and_whole() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/events")).await;
    wire.stream_head().await;
    let mut publisher = Wire::to(&hub).await;
    for n in 0..500 {
        publisher.send(publish("a", &format!("{n} {}", "x".repeat(n)))).await;
        assert_eq!(publisher.answer().await.status, 201);
    }
    for n in 0..500 {
        let block = wire.block().await;
        assert_eq!(field(&block, "data"), format!("{n} {}", "x".repeat(n)));
    }
}
