//! Pages of other origins: the quickstart routes are open to them, and nothing else is.

use super::wire::{Wire, ask, exists, get, hub, metric_is, post, published, request};

const FOREIGN: (&str, &str) = ("Origin", "http://tutorial.example:8080");
const EXPOSED: &str = "Last-Event-ID, ETag, Retry-After, Idempotent-Replayed, X-Request-Id";
const ALLOWED: &str = "Last-Event-ID, Authorization, Content-Type, Idempotency-Key, If-None-Match, \
                       Cache-Control, traceparent, tracestate, X-Request-Id";

fn assert_open(answer: &super::wire::Answer) {
    assert_eq!(answer.field("access-control-allow-origin"), "*", "{answer:?}");
    assert_eq!(answer.field("access-control-expose-headers"), EXPOSED);
    assert_eq!(answer.field("vary"), "Origin");
    assert!(!answer.has("access-control-allow-credentials"), "{answer:?}");
}

#[tokio::test]
async fn a_preflight_of_a_quickstart_route_is_granted() {
    let hub = hub(&[]).await;
    for (target, method) in [("/publish", "POST"), ("/subscribe", "GET"), ("/events", "GET")] {
        let fields = [
            FOREIGN,
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", "content-type"),
        ];
        let answer = ask(&hub, request("OPTIONS", target, &fields, "")).await;
        assert_eq!(answer.status, 204, "{target}: {answer:?}");
        assert_eq!(answer.field("access-control-allow-origin"), "*");
        assert_eq!(answer.field("access-control-allow-headers"), ALLOWED);
        assert!(answer.field("access-control-allow-methods").contains(method), "{answer:?}");
        assert!(answer.has("access-control-max-age"));
    }
}

#[tokio::test]
async fn every_answer_of_a_quickstart_route_can_be_read_by_any_page() {
    let hub = hub(&[]).await;
    let good = request("POST", "/publish", &[FOREIGN], r#"{"message":"x"}"#);
    let bad = request("POST", "/publish", &[FOREIGN], "{}");
    let wrong = request("PUT", "/publish", &[FOREIGN], "");
    let answered = request("GET", "/subscribe?after=0", &[FOREIGN], "");
    for (request, status) in [(good, 200), (bad, 400), (wrong, 405), (answered, 200)] {
        let answer = ask(&hub, request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_open(&answer);
    }
    // The socket of these two is taken from the HTTP server, and the headers are not lost.
    let mut wire = Wire::to(&hub).await;
    wire.send(request("GET", "/events", &[FOREIGN], "")).await;
    assert_open(&wire.stream_head().await.0);
    let mut wire = Wire::to(&hub).await;
    wire.send(request("GET", "/subscribe", &[FOREIGN], "")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    published(&hub, "default", "x").await;
    assert_open(&wire.answer().await);
}

#[tokio::test]
async fn nothing_else_can_be_read_by_foreign_pages() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    for target in
        ["/v1/channels", "/v1/channels/a", "/v1/channels/a/poll?timeout=0", "/metrics", "/"]
    {
        let answer = ask(&hub, request("GET", target, &[FOREIGN], "")).await;
        assert!(!answer.has("access-control-allow-origin"), "{target}: {answer:?}");
    }
    for target in ["/v1/channels/a/events", "/v1/events?channel=a"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", target, &[FOREIGN], "")).await;
        let (head, _) = wire.stream_head().await;
        assert!(!head.has("access-control-allow-origin"), "{target}: {head:?}");
    }
    for target in ["/v1/channels/a/events", "/v1/channels/a", "/v1/events"] {
        let fields = [FOREIGN, ("Access-Control-Request-Method", "POST")];
        let answer = ask(&hub, request("OPTIONS", target, &fields, "")).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert!(!answer.has("access-control-allow-origin"), "{answer:?}");
    }
    // The client module is for any page, as scripts are.
    let answer = ask(&hub, request("GET", "/visnyk.js", &[FOREIGN], "")).await;
    assert_eq!(answer.field("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn a_link_leads_to_what_is_there_and_not_to_what_waits_for_events() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    let status = async |target: &str, site: &str| {
        let fields = [("Sec-Fetch-Site", site), ("Sec-Fetch-Dest", "document")];
        ask(&hub, request("GET", target, &fields, "")).await.status
    };
    // The page that opens a window sees when its answer comes.
    for target in ["/v1/channels/a/poll?timeout=0", "/v1/poll?channel=**&timeout=0"] {
        for site in ["cross-site", "same-site"] {
            assert_eq!(status(target, site).await, 403, "{target} {site}");
        }
        // A typed address, and the hub's own pages.
        for site in ["none", "same-origin"] {
            assert_eq!(status(target, site).await, 204, "{target} {site}");
        }
    }
    for target in ["/v1/channels/a/events", "/v1/events?channel=a"] {
        assert_eq!(status(target, "cross-site").await, 403, "{target}");
    }
    for target in ["/v1/channels", "/v1/channels/a", "/v1/connections", "/metrics", "/"] {
        assert_eq!(status(target, "cross-site").await, 200, "{target}");
    }
}

#[tokio::test]
async fn foreign_pages_may_neither_publish_nor_close() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    for request in [
        request("POST", "/v1/channels/foreign/events", &[FOREIGN], "x"),
        request("POST", "/v1/events?channel=foreign", &[FOREIGN], "x"),
        request("POST", "/v1/events?channel=foreign", &[("Origin", "null")], "x"),
        request("DELETE", "/v1/channels/a", &[FOREIGN], ""),
    ] {
        ask(&hub, request).await.refuses(403, "Origin");
    }
    assert!(!exists(&hub, "foreign").await);
    assert_eq!(ask(&hub, get("/v1/channels/a")).await.json()["closed"], false);
    let own = [("Origin", "http://localhost")];
    assert_eq!(ask(&hub, request("POST", "/v1/channels/a/events", &own, "x")).await.status, 201);
    assert_eq!(ask(&hub, post("/v1/channels/a/events", "x")).await.status, 201);
}

#[tokio::test]
async fn on_loopback_a_foreign_host_is_misdirected() {
    let hub = hub(&[("allowed_hosts", "hub.example, other.example")]).await;
    let status = async |host: &str| {
        ask(&hub, format!("GET /v1/channels HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
    };
    for host in ["localhost", "127.0.0.1:3000", "hub.example", "HUB.example:80", "other.example"] {
        assert_eq!(status(host).await.status, 200, "{host}");
    }
    for host in ["evil.example", "evil.hub.example", "hub.example.evil", "192.0.2.1"] {
        status(host).await.refuses(421, "Host");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_counted_and_each_origin_is_logged_once() {
    let mut hub = hub(&[]).await;
    let own = format!("http://{}", hub.address());
    let host = hub.address().to_string();
    for (times, origin) in [(0, own.as_str()), (1, FOREIGN.1), (2, FOREIGN.1), (3, "null")] {
        let head = format!("GET /v1/channels HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n");
        ask(&hub, head).await;
        assert_eq!(super::wire::metric(&hub, "visnyk_foreign_origin_requests_total").await, times);
    }
    // The quickstart is open to all pages.
    ask(&hub, request("POST", "/publish", &[FOREIGN], r#"{"message":"x"}"#)).await;
    assert_eq!(super::wire::metric(&hub, "visnyk_foreign_origin_requests_total").await, 3);
    hub.wait_for_line("--cors-origin null", super::wire::PATIENCE).await.unwrap();
    let log = hub.stderr();
    assert_eq!(log.matches(&format!("--cors-origin {}", FOREIGN.1)).count(), 1, "{log}");
    assert!(!log.contains(&format!("--cors-origin {own}")), "{log}");
}
