//! Requests sent before the answers to those before them (RFC 9112, section 9.3.2).

use super::{
    STREAMS,
    wire::{
        Wire, exists, get, hub, metric, metric_is, nothing_is_left, post, publish, published,
        request, taken_on,
    },
};

#[tokio::test]
async fn publishes_are_answered_in_their_order() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    let requests: String = (0..50).map(|n| publish("a", &n.to_string())).collect();
    wire.send(requests).await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        let answer = wire.answer().await;
        assert_eq!(answer.status, 201);
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    wire.send(get("/v1/channels/a/poll?last_event_id=earliest")).await;
    let polled = wire.answer().await.json();
    for (n, event) in polled["events"].as_array().unwrap().iter().enumerate() {
        assert_eq!(event["id"], ids[n]);
        assert_eq!(event["data"], n.to_string());
    }
}

#[tokio::test]
async fn a_request_behind_a_waiting_poll_is_answered_after_it() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/poll") + &publish("b", "second")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    assert!(!exists(&hub, "b").await, "the second request went ahead of the first");
    published(&hub, "a", "first").await;
    assert_eq!(wire.answer().await.json()["events"][0]["data"], "first");
    let answer = wire.answer().await;
    assert_eq!((answer.status, &answer.json()["channel"]), (201, &"b".into()));
    wire.send(get("/healthz")).await;
    assert_eq!(wire.answer().await.text(), "ok\n");
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_request_sent_while_a_poll_waits_is_answered_after_it() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/poll")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    let request = publish("b", "second");
    wire.send(&request[..20]).await;
    published(&hub, "a", "first").await;
    assert_eq!(wire.answer().await.status, 200);
    wire.send(&request[20..]).await;
    assert_eq!(wire.answer().await.status, 201);
}

#[tokio::test]
async fn a_poll_that_runs_out_lets_the_next_request_go_on() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/poll?timeout=1") + &publish("a", "too late")).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 204);
    assert_eq!(wire.answer().await.status, 201);
    let position = answer.field("last-event-id");
    wire.send(get(&format!("/v1/channels/a/poll?last_event_id={position}"))).await;
    assert_eq!(wire.answer().await.json()["events"][0]["data"], "too late");
}

#[tokio::test]
async fn more_than_is_kept_behind_a_waiting_poll_stays_in_the_kernel() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    // Larger than what the hub keeps of early bytes, and smaller than a socket's buffer.
    let data = "x".repeat(60_000);
    wire.send(get("/v1/channels/a/poll") + &publish("b", &data)).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    published(&hub, "a", "first").await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(wire.answer().await.status, 201);
    wire.send(get("/v1/channels/b/poll?last_event_id=earliest")).await;
    assert_eq!(wire.answer().await.json()["events"][0]["data"], data);
}

#[tokio::test]
async fn polls_that_need_not_wait_are_answered_in_their_order() {
    let hub = hub(&[]).await;
    for n in 0..5 {
        published(&hub, "a", &n.to_string()).await;
    }
    let mut wire = Wire::to(&hub).await;
    let requests: String = (1..=5)
        .map(|limit| get(&format!("/v1/channels/a/poll?last_event_id=earliest&limit={limit}")))
        .collect();
    wire.send(requests).await;
    for limit in 1..=5 {
        assert_eq!(wire.answer().await.json()["events"].as_array().unwrap().len(), limit);
    }
}

#[tokio::test]
async fn what_comes_behind_a_stream_is_ignored() {
    let hub = hub(&[]).await;
    for target in STREAMS {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target) + &publish("smuggled", "x") + &get("/healthz")).await;
        wire.stream_head().await;
        wire.send(publish("smuggled", "y") + "not even HTTP").await;
        let channel = if target == "/events" { "default" } else { "a" };
        published(&hub, channel, "the next").await;
        let block = wire.block().await;
        assert!(block.contains("the next"), "{block}");
    }
    assert!(!exists(&hub, "smuggled").await);
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_publish_before_a_stream_is_answered_in_full_before_the_streams_head() {
    let hub = hub(&[]).await;
    for target in STREAMS {
        let mut wire = Wire::to(&hub).await;
        wire.send(publish("a", "x") + &get(target)).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json()["channel"], "a");
        let (_, block) = wire.stream_head().await;
        assert!(block.starts_with(": visnyk\nretry: "), "{block}");
    }
}

#[tokio::test]
async fn a_long_answer_before_a_stream_goes_out_in_full() {
    let hub = hub(&[]).await;
    let data = "x".repeat(900_000);
    published(&hub, "big", &data).await;
    let mut wire = Wire::to(&hub).await;
    // The answer is larger than the send buffer, so the stream's head waits for it.
    wire.send(get("/v1/channels/big/poll?last_event_id=earliest") + &get(STREAMS[0])).await;
    assert_eq!(wire.answer().await.json()["events"][0]["data"], data);
    wire.stream_head().await;
    published(&hub, "a", "live").await;
    assert!(wire.block().await.starts_with("data: live\n"));
}

#[tokio::test]
async fn answers_that_wait_for_the_client_to_read_go_out_before_a_stream() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    // Far more than the socket takes while the client does not read.
    let heads = 10_000;
    let requests = request("HEAD", "/healthz", &[], "").repeat(heads);
    wire.send(requests + &get(STREAMS[0])).await;
    for n in 0..heads {
        assert_eq!(wire.head().await.status, 200, "answer {n}");
    }
    wire.stream_head().await;
    published(&hub, "a", "live").await;
    assert!(wire.block().await.starts_with("data: live\n"));
}

#[tokio::test]
async fn everything_in_one_segment() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    let chain = [
        publish("a", "1"),
        get("/v1/channels/a/poll?last_event_id=earliest"),
        get("/v1/channels/a/poll?timeout=1"),
        publish("a", "2"),
        get("/nowhere"),
        get("/v1/channels/a/poll?last_event_id=earliest&limit=10"),
        post("/publish", r#"{"message":"3"}"#),
        get("/subscribe?after=0"),
        get("/v1/channels/a/events?last_event_id=earliest"),
        publish("smuggled", "x"),
    ];
    wire.send(chain.concat()).await;
    for status in [201, 200, 204, 201, 404] {
        assert_eq!(wire.answer().await.status, status);
    }
    assert_eq!(wire.answer().await.json()["events"].as_array().unwrap().len(), 2);
    assert_eq!(wire.answer().await.json()["message"], "3");
    let answer = wire.answer().await.json();
    assert_eq!(answer["message"], "3");
    // Event 3 of the log is the first of `default`; the rest of an id is a time in whole
    // milliseconds.
    assert_eq!(answer["id"].as_u64().expect("a number") % 1_000, 3);
    wire.stream_head().await;
    assert!(wire.block().await.starts_with("data: 1\n"));
    assert!(wire.block().await.starts_with("data: 2\n"));
    assert!(!exists(&hub, "smuggled").await);
}

#[tokio::test]
async fn one_socket_serves_a_hundred_polls_and_publishes() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    let mut position = "now".to_owned();
    for n in 0..100 {
        wire.send(get(&format!("/v1/channels/a/poll?last_event_id={position}"))).await;
        taken_on(&hub, n + 1).await;
        published(&hub, "a", &format!("theirs {n}")).await;
        let answer = wire.answer().await;
        let events = answer.json()["events"].clone();
        assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
        assert_eq!(events[0]["data"], format!("theirs {n}"));
        wire.send(publish("a", &format!("own {n}"))).await;
        let own = wire.answer().await;
        assert_eq!(own.status, 201);
        // Skip its own event.
        position = own.json()["id"].as_str().unwrap().to_owned();
    }
    let answered = "visnyk_connections_closed_total{reason=\"answered\"}";
    assert_eq!(metric(&hub, answered).await, 100, "every poll waited on the same socket");
    nothing_is_left(&hub).await;
}
