//! Temporary refusals: an EventSource must survive them, and all other clients must understand
//! them.

use super::{
    field,
    wire::{Wire, ask, get, hub, nothing_is_left, publish, published, request},
};

const ACCEPT: (&str, &str) = ("Accept", "text/event-stream");

#[tokio::test]
async fn an_event_source_is_refused_by_a_stream_that_ends() {
    let hub = hub(&[("limits.connections.connections_max", "1")]).await;
    let mut only = Wire::to(&hub).await;
    only.send(get("/v1/channels/a/events")).await;
    only.stream_head().await;
    let mut retries = Vec::new();
    for target in ["/v1/channels/a/events", "/v1/events?channel=b", "/events"] {
        let answer = ask(&hub, request("GET", target, &[ACCEPT], "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.field("content-type"), "text/event-stream; charset=utf-8");
        assert_eq!(answer.field("cache-control"), "private, no-cache, no-store, no-transform");
        let text = answer.text();
        assert!(text.starts_with(": refused: "), "{text}");
        assert!(
            text.ends_with("\n\n") && !text.contains("data") && !text.contains("id:"),
            "{text}"
        );
        retries.push(field(text, "retry").parse::<u32>().unwrap());
    }
    assert!(retries.iter().all(|retry| (2_000..=4_000).contains(retry)), "{retries:?}");

    for target in ["/v1/channels/a/events", "/v1/channels/a/poll", "/subscribe"] {
        let answer = ask(&hub, get(target)).await;
        assert_eq!(answer.status, 503, "{target}: {answer:?}");
        assert!(answer.field("retry-after").parse::<u32>().unwrap() >= 1);
        answer.problem();
    }
    let refused = "visnyk_subscriptions_refused_total{reason=\"too_many_connections\"}";
    assert_eq!(super::wire::metric(&hub, refused).await, 6);

    // No other request is refused, and the permit goes to the next client when it is free.
    published(&hub, "a", "x").await;
    let answer = ask(&hub, get("/v1/channels/a/poll?last_event_id=earliest")).await;
    assert_eq!(answer.status, 200, "a poll that need not wait takes no permit");
    drop(only);
    nothing_is_left(&hub).await;
    let mut next = Wire::to(&hub).await;
    next.send(request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
    let (_, first) = next.stream_head().await;
    assert!(!first.contains("refused"), "{first}");
}

#[tokio::test]
async fn a_client_that_comes_back_before_its_old_connection_ended_is_not_refused() {
    let hub = hub(&[("limits.connections.connections_max", "1")]).await;
    for round in 0..30 {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
        let (_, first) = wire.stream_head().await;
        assert!(!first.contains("refused"), "round {round}: {first}");
    }
}

#[tokio::test]
async fn a_setting_makes_refusals_plain() {
    let hub = hub(&[("limits.connections.connections_max", "1"), ("plain_refusals", "true")]).await;
    let mut only = Wire::to(&hub).await;
    only.send(get("/v1/channels/a/events")).await;
    only.stream_head().await;
    let answer = ask(&hub, request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.has("retry-after"));
    answer.problem();
}

#[tokio::test]
async fn a_full_directory_refuses_what_would_grow_it_and_nothing_else() {
    let hub = hub(&[("limits.channels.channels_max", "1")]).await;
    published(&hub, "a", "x").await;
    let answer = ask(&hub, publish("b", "x")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.has("retry-after"));
    answer.problem();
    assert_eq!(ask(&hub, get("/v1/channels/b/poll?timeout=0")).await.status, 503);
    let answer = ask(&hub, request("GET", "/v1/channels/b/events", &[ACCEPT], "")).await;
    assert!(answer.status == 200 && answer.text().starts_with(": refused: "), "{answer:?}");
    for (what, times) in [("publishes", 1), ("subscriptions", 2)] {
        let name = format!("visnyk_{what}_refused_total{{reason=\"too_many_channels\"}}");
        assert_eq!(super::wire::metric(&hub, &name).await, times, "{name}");
    }
    published(&hub, "a", "y").await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/events?channel=**&last_event_id=earliest")).await;
    wire.stream_head().await;
    assert!(wire.block().await.starts_with("data: x\n"));
}

#[tokio::test]
async fn permanent_refusals_are_plain_for_all_clients() {
    let hub = hub(&[]).await;
    let answer = ask(&hub, request("GET", "/v1/events?channel=a//b", &[ACCEPT], "")).await;
    answer.refuses(400, "channel");
}

#[tokio::test]
async fn a_drain_refuses_streams_and_answers_polls() {
    let mut hub = hub(&[("drain_window_s", "3"), ("shards", "1")]).await;
    // As many as the window is for.
    let mut streams = Vec::new();
    for _ in 0..150 {
        let mut stream = Wire::to(&hub).await;
        stream.send(get("/v1/channels/a/events")).await;
        stream.stream_head().await;
        streams.push(stream);
    }
    let mut kept = Wire::to(&hub).await;
    kept.send(get("/healthz")).await;
    assert!(!kept.answer().await.has("connection"));
    let mut poll = Wire::to(&hub).await;
    poll.send(get("/v1/channels/a/poll?timeout=60")).await;
    super::wire::metric_is(&hub, "visnyk_pollers", 1).await;
    hub.terminate().unwrap();
    hub.wait_for_line("draining", super::wire::PATIENCE).await.unwrap();
    // The flag and the line are set one after the other.
    loop {
        let answer = ask(&hub, get("/readyz")).await;
        if answer.status == 503 {
            answer.problem();
            break;
        }
    }
    kept.send(get("/healthz")).await;
    assert_eq!(kept.answer().await.field("connection"), "close");
    kept.closed().await;
    let answer = ask(&hub, request("GET", "/v1/channels/a/events", &[ACCEPT], "")).await;
    assert!(answer.status == 200 && answer.text().starts_with(": refused: "), "{answer:?}");
    // With `Connection: close` some clients would take the cut for the end.
    assert_eq!((answer.field("transfer-encoding"), answer.has("connection")), ("chunked", false));
    for target in [get("/v1/channels/a/poll"), request("POST", "/v1/channels/a/events", &[], "x")] {
        let answer = ask(&hub, target).await;
        assert_eq!((answer.status, answer.has("retry-after")), (503, true));
        assert_eq!(answer.field("connection"), "close");
    }
    let answer = poll.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (204, "close"));
    poll.closed().await;
    for mut stream in streams {
        let last = stream.block().await;
        assert!(last.starts_with("retry: ") && last.lines().count() == 2, "{last}");
        stream.closed().await;
        assert!(!stream.has_ended(), "the client is to come back");
    }
    assert!(hub.wait(super::wire::PATIENCE).await.unwrap().success());
}
