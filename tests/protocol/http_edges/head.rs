//! HEAD: everywhere a GET is, without a body, without a subscription, and without an end to the
//! connection.

use super::wire::{Wire, get, hub, metric, published, request};

#[tokio::test]
async fn head_answers_without_a_body_on_every_route() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    let mut stream = Wire::to(&hub).await;
    stream.send(get("/v1/channels/a/events")).await;
    stream.stream_head().await;
    let mut wire = Wire::to(&hub).await;
    for route in visnyk::http::ROUTES {
        let mut target = route
            .path
            .replace("{channel}", "a")
            .replace("{id}", "1")
            .replace("{file}", "console.js");
        if matches!(route.path, "/v1/events" | "/v1/poll" | "/v1/channel") {
            target += "?channel=a";
        }
        wire.send(request("HEAD", &target, &[], "")).await;
        let answer = wire.head().await;
        if !route.allow.contains("HEAD") {
            assert_eq!((answer.status, answer.field("allow")), (405, route.allow), "{target}");
        } else {
            assert_eq!(answer.status, 200, "{target}: {answer:?}");
        }
        assert!(!answer.has("transfer-encoding"), "{target}: {answer:?}");
        if target.ends_with("events") || target.contains("/events?") {
            assert_eq!(answer.field("content-type"), "text/event-stream; charset=utf-8");
            assert!(!answer.has("content-length"), "a stream has no length: {answer:?}");
        }
        // Whatever came after the head would be taken for this answer.
        wire.send(get("/healthz")).await;
        assert_eq!(wire.answer().await.text(), "ok\n", "after HEAD {target}");
    }
    assert_eq!(metric(&hub, "visnyk_connections_opened_total").await, 1);
}

#[tokio::test]
async fn head_has_the_fields_of_get() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    for target in ["/", "/healthz", "/openapi.json", "/visnyk.js", "/v1/channels"] {
        wire.send(request("HEAD", target, &[], "")).await;
        let head = wire.head().await;
        wire.send(get(target)).await;
        let got = wire.answer().await;
        for name in ["content-type", "content-length", "cache-control", "vary"] {
            assert_eq!(head.field(name), got.field(name), "{name} of {target}");
        }
    }
}

#[tokio::test]
async fn head_is_refused_as_get_is() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    for (target, status) in [
        ("/nowhere", 404),
        ("/v1/channels/none", 404),
        ("/v1/events", 400),
        ("/v1/poll?channel=a&timeout=1000", 400),
    ] {
        wire.send(request("HEAD", target, &[], "")).await;
        assert_eq!(wire.head().await.status, status, "{target}");
    }
    wire.send(get("/healthz")).await;
    assert_eq!(wire.answer().await.text(), "ok\n");
}
