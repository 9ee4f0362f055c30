//! Clients that end their sending side, or go away: nothing hangs, nothing leaks.

use super::{
    POLLS, STREAMS,
    wire::{Wire, exists, get, hub, metric_is, nothing_is_left, post, publish, published, request},
};

const GONE: &str = "visnyk_connections_closed_total{reason=\"peer_closed\"}";

#[tokio::test]
async fn a_stream_ends_with_its_clients_sending_side() {
    let hub = hub(&[]).await;
    for target in STREAMS {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        wire.stream_head().await;
        wire.half_close().await;
        wire.closed().await;
    }
    nothing_is_left(&hub).await;
    metric_is(&hub, GONE, STREAMS.len() as u64).await;
}

#[tokio::test]
async fn a_stream_asked_for_by_a_half_closed_socket_ends_too() {
    let hub = hub(&[]).await;
    for target in STREAMS {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        wire.half_close().await;
        wire.rest().await;
    }
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_poll_ends_with_its_clients_sending_side() {
    let hub = hub(&[]).await;
    for (count, target) in POLLS.into_iter().enumerate() {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        wire.half_close().await;
        wire.closed().await;
        metric_is(&hub, GONE, count as u64 + 1).await;
        metric_is(&hub, "visnyk_pollers", 0).await;
    }
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_poll_that_need_not_wait_is_answered_on_a_half_closed_socket() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/poll?last_event_id=earliest")).await;
    wire.half_close().await;
    assert_eq!(wire.answer().await.json()["events"][0]["data"], "x");
    wire.closed().await;
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_poll_whose_client_goes_away_is_noticed_at_once() {
    let hub = hub(&[("limits.poll.timeout_s", "60")]).await;
    for target in POLLS {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        drop(wire);
        metric_is(&hub, "visnyk_pollers", 0).await;
    }
    metric_is(&hub, GONE, POLLS.len() as u64).await;
}

#[tokio::test]
async fn a_publish_on_a_half_closed_socket_is_answered() {
    let hub = hub(&[]).await;
    let batch = request(
        "POST",
        "/v1/events?channel=a",
        &[("Content-Type", "application/x-ndjson")],
        "{\"data\":1}\n{\"data\":2}\n",
    );
    for (publish, status) in [
        (publish("a", "x"), 201),
        (post("/v1/events?channel=a", "x"), 201),
        (batch, 201),
        (post("/publish", r#"{"message":"x"}"#), 200),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(&publish).await;
        wire.half_close().await;
        assert_eq!(wire.answer().await.status, status, "{publish}");
        wire.closed().await;
    }
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_publishes_nothing() {
    let hub = hub(&[]).await;
    for framing in
        ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        let mut wire = Wire::to(&hub).await;
        let target = "/v1/channels/broken/events";
        wire.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{framing}")).await;
        wire.half_close().await;
        wire.answer().await.refuses(400, "body");
        wire.closed().await;
    }
    assert!(!exists(&hub, "broken").await);
}

#[tokio::test]
async fn a_request_that_breaks_off_in_its_head_is_nothing() {
    let hub = hub(&[]).await;
    let whole = get("/v1/channels/a/events");
    for end in [0, 1, 10, whole.len() - 2, whole.len() - 1] {
        let mut wire = Wire::to(&hub).await;
        wire.send(&whole[..end]).await;
        wire.half_close().await;
        wire.rest().await;
    }
    assert!(!exists(&hub, "a").await);
    nothing_is_left(&hub).await;
}
