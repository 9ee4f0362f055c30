//! HTTP/1.0: health checks, old proxies, `ab`. Everything works, and every answer ends the
//! connection.

use super::wire::{Wire, exists, hub, metric_is, nothing_is_left, published};

fn request(line: &str, rest: &str) -> String {
    format!("{line} HTTP/1.0\r\n{rest}")
}

#[tokio::test]
async fn every_route_answers_without_a_host_and_closes() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    for target in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/",
        "/visnyk.js",
        "/v1/channels",
        "/v1/channels/a",
        "/v1/channels/a/poll?last_event_id=earliest",
        "/v1/poll?channel=a&last_event_id=earliest",
        "/subscribe?after=0",
    ] {
        if target == "/subscribe?after=0" {
            published(&hub, "default", "y").await;
        }
        let mut wire = Wire::to(&hub).await;
        wire.send(request(&format!("GET {target}"), "\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert!(!answer.has("transfer-encoding"), "{target}: {answer:?}");
        wire.closed().await;
    }
}

#[tokio::test]
async fn publishes_are_taken() {
    let hub = hub(&[]).await;
    for (target, body, status) in [
        ("/v1/channels/a/events", "hello", 201),
        ("/v1/events?channel=a", "hello", 201),
        ("/publish", r#"{"message":"hello"}"#, 200),
    ] {
        let mut wire = Wire::to(&hub).await;
        let length = body.len();
        wire.send(request(
            &format!("POST {target}"),
            &format!("Content-Length: {length}\r\n\r\n{body}"),
        ))
        .await;
        assert_eq!(wire.answer().await.status, status);
        wire.closed().await;
    }
}

#[tokio::test]
async fn streams_run_until_the_connection_ends() {
    let hub = hub(&[]).await;
    for (target, channel) in
        [("/v1/channels/a/events", "a"), ("/v1/events?channel=a", "a"), ("/events", "default")]
    {
        let mut wire = Wire::to(&hub).await;
        wire.send(request(&format!("GET {target}"), "\r\n")).await;
        let (head, _) = wire.stream_head().await;
        assert!(!head.has("transfer-encoding") && !head.has("content-length"), "{head:?}");
        published(&hub, channel, "live").await;
        assert!(wire.block().await.contains("live"));
    }
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn waiting_polls_are_answered_and_closed() {
    let hub = hub(&[]).await;
    for (target, channel, keep) in [
        ("/v1/channels/a/poll", "a", ""),
        ("/v1/poll?channel=a", "a", "Connection: keep-alive\r\n"),
        ("/subscribe", "default", ""),
    ] {
        let mut wire = Wire::to(&hub).await;
        let behind = "POST /v1/channels/smuggled/events HTTP/1.0\r\nContent-Length: 1\r\n\r\nx";
        wire.send(request(&format!("GET {target}"), keep) + "\r\n" + behind).await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        published(&hub, channel, "live").await;
        let answer = wire.answer().await;
        assert!(answer.text().contains("live"), "{answer:?}");
        assert_eq!(answer.field("connection"), "close");
        wire.closed().await;
    }
    assert!(!exists(&hub, "smuggled").await);
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn head_ends_at_its_head() {
    let hub = hub(&[]).await;
    for target in ["/healthz", "/v1/channels/a/events", "/v1/channels/a/poll", "/events"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(request(&format!("HEAD {target}"), "\r\n")).await;
        assert_eq!(wire.head().await.status, 200);
        wire.closed().await;
    }
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn a_client_that_asks_for_the_end_gets_it() {
    let hub = hub(&[]).await;
    for close in ["close", "Close", "foo, close"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(format!(
            "GET /v1/channels/a/poll HTTP/1.1\r\nHost: localhost\r\nConnection: {close}\r\n\r\n"
        ))
        .await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        published(&hub, "a", "live").await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (200, "close"));
        wire.closed().await;
    }
}
