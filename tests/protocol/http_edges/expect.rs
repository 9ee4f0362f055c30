//! `Expect: 100-continue` (RFC 9110, section 10.1.1).

use super::{
    STREAMS, streams_and_polls,
    wire::{Wire, exists, get, hub, nothing_is_left, publish, request},
};

const EXPECT: (&str, &str) = ("Expect", "100-continue");

#[tokio::test]
async fn a_publisher_with_expect_gets_100_continue() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    for target in ["/v1/channels/a/events", "/v1/events?channel=a"] {
        wire.send(request("POST", target, &[EXPECT, ("Content-Length", "5")], "").replacen(
            "Content-Length: 0\r\n",
            "",
            1,
        ))
        .await;
        assert_eq!(wire.head().await.status, 100);
        wire.send("hello").await;
        assert_eq!(wire.answer().await.status, 201);
    }
}

#[tokio::test]
async fn a_publish_that_is_refused_anyway_is_not_asked_for_its_body() {
    let hub = hub(&[]).await;
    for (target, length, status, field) in [
        ("/v1/channels/..%2Fx/events", "5", 400, "channel"),
        ("/v1/channels/a/events?type=visnyk.x", "5", 400, "type"),
        ("/v1/channels/a/events", "100000000", 413, "body"),
        ("/publish", "100000000", 413, "body"),
    ] {
        let mut wire = Wire::to(&hub).await;
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        wire.send(head).await;
        let answer = wire.answer().await;
        answer.refuses(status, field);
        // A client that sends its body all the same has not sent a request.
        let _ = wire.try_send(publish("smuggled", "x")).await;
        wire.rest().await;
    }
    assert!(!exists(&hub, "smuggled").await);
}

#[tokio::test]
async fn streams_and_polls_have_nothing_to_go_on_with() {
    let hub = hub(&[]).await;
    for target in STREAMS {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", target, &[EXPECT], "")).await;
        wire.stream_head().await;
    }
    for target in ["/v1/channels/a/poll?timeout=0", "/v1/poll?channel=a&timeout=0"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", target, &[EXPECT], "") + &get("/healthz")).await;
        assert_eq!(wire.answer().await.status, 204);
        assert_eq!(wire.answer().await.text(), "ok\n");
    }
    for target in streams_and_polls() {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", target, &[EXPECT, ("Content-Length", "5")], "")).await;
        wire.answer().await.refuses(400, "body");
    }
    nothing_is_left(&hub).await;
}
