//! Pages of origins that the settings name: what they may read, send, and ask for beforehand. No
//! other origin is ever granted that.

use visnyk_loadtest::Hub;

use super::wire::{Answer, Wire, ask, get, hub, metric_is, publish, published, request, taken_on};

const APP: (&str, &str) = ("Origin", "https://app.example");
const TEAM: (&str, &str) = ("Origin", "https://a.b.team.example:8443");
const FOREIGN: (&str, &str) = ("Origin", "https://evil.example");
const ORIGINS: (&str, &str) = ("cors_origins", "https://app.example, https://*.team.example:8443");
const SECRET: (&str, &str) = ("jwt_secret", "a-secret-of-these-tests-and-of-no-hub");
const ALLOWED: &str = "Last-Event-ID, Authorization, Content-Type, Idempotency-Key, If-None-Match, \
                       Cache-Control, traceparent, tracestate, X-Request-Id";
const EXPOSED: &str = "Last-Event-ID, ETag, Retry-After, Idempotent-Replayed, X-Request-Id";

/// Checks that a page of this origin may read the answer.
#[track_caller]
fn shared(answer: &Answer, origin: (&str, &str)) {
    assert_eq!(answer.field("access-control-allow-origin"), origin.1, "{answer:?}");
    assert_eq!(answer.field("access-control-expose-headers"), EXPOSED, "{answer:?}");
    assert_eq!(answer.field("vary"), "Origin", "{answer:?}");
    assert!(!answer.has("access-control-allow-credentials"), "{answer:?}");
}

/// Checks that no page of another origin may.
#[track_caller]
fn not_shared(answer: &Answer) {
    let says = |(name, _): &&(String, String)| name.starts_with("access-control");
    assert_eq!(answer.fields.iter().find(says), None, "{answer:?}");
}

async fn preflight(hub: &Hub, target: &str, origin: (&str, &str), more: &[(&str, &str)]) -> Answer {
    let mut fields = vec![
        origin,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization, last-event-id"),
    ];
    fields.extend(more);
    ask(hub, request("OPTIONS", target, &fields, "")).await
}

#[tokio::test]
async fn a_preflight_is_granted_by_route_and_without_a_token() {
    let hub = hub(&[ORIGINS, SECRET, ("cors.max_age_s", "7")]).await;
    for (target, methods) in [
        ("/v1/channels/a%2Fb/events", "GET, HEAD, POST, OPTIONS"),
        ("/v1/events?channel=a", "GET, HEAD, POST, OPTIONS"),
        ("/v1/channels/a/poll", "GET, HEAD, OPTIONS"),
        ("/v1/poll", "GET, HEAD, OPTIONS"),
        ("/v1/channels", "GET, HEAD, OPTIONS"),
        ("/v1/channels/a", "GET, HEAD, DELETE, OPTIONS"),
        ("/v1/connections/1/token", "POST, OPTIONS"),
        ("/publish", "POST, OPTIONS"),
        ("/events", "GET, HEAD, OPTIONS"),
        ("/readyz", "GET, HEAD, OPTIONS"),
    ] {
        for origin in [APP, TEAM] {
            let answer = preflight(&hub, target, origin, &[]).await;
            assert_eq!(answer.status, 204, "{target}: {answer:?}");
            shared(&answer, origin);
            assert_eq!(answer.field("access-control-allow-methods"), methods, "{target}");
            assert_eq!(answer.field("access-control-allow-headers"), ALLOWED);
            assert_eq!(answer.field("access-control-max-age"), "7");
            assert!(!answer.has("access-control-allow-private-network"), "{answer:?}");
        }
        if !target.starts_with("/v1") {
            continue;
        }
        for origin in [FOREIGN, ("Origin", "null"), ("Origin", "https://team.example:8443")] {
            let answer = preflight(&hub, target, origin, &[]).await;
            answer.refuses(403, "Origin");
            assert_eq!(answer.field("vary"), "Origin");
            not_shared(&answer);
        }
    }
    // Without a method that is to be allowed it is an ordinary request.
    let answer = ask(&hub, request("OPTIONS", "/readyz", &[APP], "")).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert!(!answer.has("access-control-allow-methods"), "{answer:?}");
    assert_eq!(preflight(&hub, "/v1/nothing", APP, &[]).await.status, 404);
}

#[tokio::test]
async fn a_page_of_the_internet_reaches_a_private_hub_only_if_it_is_named() {
    const ASKS: [(&str, &str); 1] = [("Access-Control-Request-Private-Network", "true")];
    let named = hub(&[("cors_origins", "*, https://app.example")]).await;
    let answer = preflight(&named, "/v1/channels", APP, &ASKS).await;
    assert_eq!(answer.field("access-control-allow-private-network"), "true");
    for target in ["/v1/channels", "/publish"] {
        let answer = preflight(&named, target, FOREIGN, &ASKS).await;
        assert_eq!(answer.field("access-control-allow-origin"), "*", "{answer:?}");
        assert!(!answer.has("access-control-allow-private-network"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_listed_page_may_publish_and_read_every_answer() {
    let hub = hub(&[ORIGINS, ("limits.publish.body_bytes_max", "1000")]).await;
    let closed = ask(&hub, publish("closed", "x")).await;
    assert_eq!(closed.status, 201);
    assert_eq!(ask(&hub, request("DELETE", "/v1/channels/closed", &[APP], "")).await.status, 204);
    let with = |method: &str, target: &str, body: &str| request(method, target, &[APP], body);
    let long = "x".repeat(2_000);
    let keyed = |body: &str| {
        request("POST", "/v1/channels/a/events", &[APP, ("Idempotency-Key", "k")], body)
    };
    for (request, status) in [
        (with("POST", "/v1/channels/a/events", "hello"), 201),
        (keyed("x"), 201),
        (keyed("x"), 201),
        (keyed("y"), 422),
        (with("GET", "/v1/channels/a/poll?last_event_id=earliest", ""), 200),
        (with("GET", "/v1/channels/a/poll?timeout=0", ""), 204),
        (with("GET", "/v1/channels/a/poll?timeout=x", ""), 400),
        (with("GET", "/v1/channels/closed/poll", ""), 410),
        (with("GET", "/v1/channels/closed/events", ""), 204),
        (with("POST", "/v1/channels/a/events", &long), 413),
        (with("GET", "/v1/channels", ""), 200),
        (with("GET", "/v1/channels/none", ""), 404),
        (with("GET", "/v1/nothing", ""), 404),
        (with("PUT", "/v1/channels/a/events", ""), 405),
        (with("DELETE", "/v1/channels/a", ""), 204),
        (with("GET", "/healthz", ""), 200),
        (with("GET", "/openapi.json", ""), 200),
    ] {
        let answer = ask(&hub, &request).await;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        shared(&answer, APP);
    }
    for (target, target_status) in [("/v1/channels/b/events", 200), ("/v1/channels/b/poll", 200)] {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("HEAD", target, &[APP], "")).await;
        let head = wire.head().await;
        assert_eq!(head.status, target_status);
        shared(&head, APP);
    }
    // Answers to requests of other pages grant nothing.
    for (method, target) in [
        ("GET", "/v1/channels"),
        ("GET", "/v1/channels/none"),
        ("GET", "/v1/channels/a/poll?timeout=0"),
        ("POST", "/v1/channels/a/events"),
        ("GET", "/healthz"),
    ] {
        let answer = ask(&hub, request(method, target, &[FOREIGN], "")).await;
        not_shared(&answer);
        assert_eq!(answer.field("vary"), "Origin", "{answer:?}");
    }
    // Nor anyone what is for no page.
    for target in ["/metrics", "/", "/console/console.js"] {
        not_shared(&ask(&hub, request("GET", target, &[APP], "")).await);
    }
}

#[tokio::test]
async fn answers_on_taken_sockets_can_be_read_too() {
    let hub = hub(&[ORIGINS, ("cors.credentials", "true")]).await;
    let credentials = |answer: &Answer| {
        assert_eq!(answer.field("access-control-allow-origin"), TEAM.1, "{answer:?}");
        assert_eq!(answer.field("access-control-allow-credentials"), "true", "{answer:?}");
        assert_eq!(answer.field("access-control-expose-headers"), EXPOSED);
        assert_eq!(answer.field("vary"), "Origin");
    };
    for target in ["/v1/channels/a/events", "/v1/events?channel=a", "/events"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", target, &[TEAM], "")).await;
        credentials(&wire.stream_head().await.0);
    }
    for (opened, target) in ["/v1/channels/a/poll", "/v1/poll?channel=a"].iter().enumerate() {
        let mut wire = Wire::to(&hub).await;
        wire.send(request("GET", target, &[TEAM], "")).await;
        taken_on(&hub, 4 + 3 * opened as u64).await;
        published(&hub, "a", "x").await;
        credentials(&wire.answer().await);
        // The next request on the socket may be another page's.
        wire.send(request("GET", "/v1/channels/a/poll?timeout=1", &[FOREIGN], "")).await;
        not_shared(&wire.answer().await);
        wire.send(request("GET", "/v1/channels/a/poll?timeout=1", &[TEAM], "")).await;
        credentials(&wire.answer().await);
        drop(wire);
        metric_is(&hub, "visnyk_pollers", 0).await;
    }
}

#[tokio::test]
async fn refusals_can_be_read() {
    let accept = ("Accept", "text/event-stream");
    let hub = hub(&[ORIGINS, ("limits.connections.connections_max", "1")]).await;
    let mut only = Wire::to(&hub).await;
    only.send(get("/v1/channels/a/events")).await;
    only.stream_head().await;
    for (fields, status) in [(&[APP, accept][..], 200), (&[APP], 503)] {
        let answer = ask(&hub, request("GET", "/v1/channels/a/events", fields, "")).await;
        assert_eq!(answer.status, status, "{answer:?}");
        shared(&answer, APP);
    }
    let answer = ask(&hub, request("GET", "/v1/channels/a/poll", &[FOREIGN, accept], "")).await;
    not_shared(&answer);
}

#[tokio::test]
async fn answers_made_from_a_head_alone_can_be_read() {
    let accept = ("Accept", "text/event-stream");
    let settings =
        [ORIGINS, ("cors.credentials", "true"), ("limits.connections.requests_max", "1")];
    let hub = hub(&settings).await;
    let mut only = Wire::to(&hub).await;
    only.send(get("/healthz")).await;
    assert_eq!(only.answer().await.status, 200);
    for (target, fields, status) in [
        ("/v1/channels/a/events", &[APP, accept][..], 200),
        ("/v1/channels/a/events", &[APP], 503),
        ("/events", &[APP, accept], 200),
    ] {
        let answer = ask(&hub, request("GET", target, fields, "")).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.field("access-control-allow-origin"), APP.1, "{answer:?}");
        assert_eq!(answer.field("access-control-allow-credentials"), "true", "{answer:?}");
        assert_eq!(answer.field("access-control-expose-headers"), EXPOSED);
        assert_eq!(answer.field("vary"), "Origin");
    }
    let answer = ask(&hub, request("GET", "/v1/channels/a/events", &[FOREIGN, accept], "")).await;
    not_shared(&answer);
    let answer = ask(&hub, request("GET", "/events", &[FOREIGN, accept], "")).await;
    assert_eq!(answer.field("access-control-allow-origin"), "*");
    assert!(!answer.has("access-control-allow-credentials"), "{answer:?}");
}

#[tokio::test]
async fn what_authorization_refuses_can_be_read() {
    let hub = hub(&[ORIGINS, SECRET]).await;
    for (method, target) in [
        ("GET", "/v1/channels/a/events"),
        ("GET", "/v1/channels/a/poll"),
        ("POST", "/v1/channels/a/events"),
        ("GET", "/v1/connections"),
    ] {
        let answer = ask(&hub, request(method, target, &[APP], "")).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        shared(&answer, APP);
        let bad = [APP, ("Authorization", "Bearer a b")];
        let answer = ask(&hub, request(method, target, &bad, "")).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        shared(&answer, APP);
    }
}

#[tokio::test]
async fn a_star_admits_any_origin_and_never_with_credentials() {
    let hub = hub(&[("cors_origins", "*")]).await;
    for origin in [FOREIGN, ("Origin", "null")] {
        let answer = ask(&hub, request("POST", "/v1/channels/a/events", &[origin], "x")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        shared(&answer, ("Origin", "*"));
        assert_eq!(preflight(&hub, "/v1/poll", origin, &[]).await.status, 204);
    }
    not_shared(&ask(&hub, request("GET", "/metrics", &[FOREIGN], "")).await);
}

#[tokio::test]
async fn every_answer_keeps_to_its_media_type() {
    let hub = hub(&[]).await;
    published(&hub, "a", "<script>alert(1)</script>").await;
    let hardened = |answer: &Answer, policy: &str| {
        assert_eq!(answer.field("x-content-type-options"), "nosniff", "{answer:?}");
        assert_eq!(answer.field("cross-origin-resource-policy"), policy, "{answer:?}");
        // Sent over TLS alone.
        assert!(!answer.has("strict-transport-security"), "{answer:?}");
    };
    for (target, media_type) in [
        ("/v1/channels/a/poll?last_event_id=earliest", "application/json"),
        ("/v1/channels/a", "application/json"),
        ("/v1/channels/none", "application/problem+json"),
        ("/nothing", "application/problem+json"),
        ("/subscribe?after=!", "application/problem+json"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/", "text/html; charset=utf-8"),
    ] {
        let answer = ask(&hub, get(target)).await;
        assert_eq!(answer.field("content-type"), media_type, "{target}");
        hardened(&answer, "same-origin");
    }
    // Nor is it of use to the next page that asks by way of the same cache.
    for target in [
        "/v1/channels/a/poll?last_event_id=earliest",
        "/v1/channels/a/poll?timeout=0",
        "/v1/channels",
        "/v1/channels/a",
        "/v1/channels/none",
        "/v1/connections",
        "/metrics",
    ] {
        let answer = ask(&hub, get(target)).await;
        assert!(answer.field("cache-control").contains("no-store"), "{target}: {answer:?}");
    }
    assert_eq!(ask(&hub, get("/console/console.js")).await.field("cache-control"), "no-cache");
    hardened(&ask(&hub, get("/visnyk.js")).await, "cross-origin");
    hardened(&ask(&hub, publish("a", "x")).await, "same-origin");
    for target in ["/v1/channels/a/events", "/events"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        hardened(&wire.stream_head().await.0, "same-origin");
    }
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/b/poll?timeout=1")).await;
    hardened(&wire.answer().await, "same-origin");
    let console = ask(&hub, get("/")).await;
    assert_eq!(console.field("x-frame-options"), "DENY");
    let policy = console.field("content-security-policy");
    for part in
        ["default-src 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
}
