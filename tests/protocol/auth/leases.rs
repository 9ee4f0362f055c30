//! How long a connection lasts: as long as its token, or a fresh one.

use serde_json::json;
use visnyk_loadtest::Hub;

use super::{
    ask_with, forbidden, hub,
    tokens::{admin, grant, now_s, signed_claims, token},
    wire::{Wire, metric, nothing_is_left},
};

/// A token that lasts so many seconds.
fn lasting(subject: &str, seconds: u64, subscribe: &[&str]) -> String {
    let visnyk = json!({"subscribe": subscribe, "publish": ["**"]});
    signed_claims(&json!({"sub": subject, "exp": now_s() + seconds, "visnyk": visnyk}))
}

/// Opens a stream and gives it with its connection's id.
async fn stream(hub: &Hub, token: &str, target: &str) -> (Wire, String) {
    let mut wire = Wire::to(hub).await;
    wire.send(super::with(token, "GET", target, "")).await;
    wire.stream_head().await;
    let hello = wire.block().await;
    let data = hello.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let hello: serde_json::Value = serde_json::from_str(data).unwrap();
    let id = hello["connection"].as_str().or(hello["id"].as_str()).unwrap().to_owned();
    (wire, id)
}

const STREAM: &str = "/v1/channels/a/events?hello=1";

#[tokio::test]
async fn a_stream_ends_with_its_token_and_says_so() {
    let hub = hub(&[]).await;
    let (mut wire, _) = stream(&hub, &lasting("ann", 2, &["a"]), STREAM).await;
    let last_words = wire.block().await;
    assert_eq!(last_words, "event: visnyk.token_expired\ndata: {\"reason\":\"expired\"}\n\n");
    let retry = wire.block().await;
    assert!(retry.starts_with("retry: "), "{retry}");
    wire.closed().await;
    nothing_is_left(&hub).await;
    let closed = "visnyk_connections_closed_total{reason=\"token_expired\"}";
    assert_eq!(metric(&hub, closed).await, 1);
}

#[tokio::test]
async fn a_stream_does_not_end_before_its_token() {
    let hub = hub(&[]).await;
    let expires_s = now_s() + 3;
    let (mut wire, _) = stream(&hub, &lasting("ann", 3, &["a"]), STREAM).await;
    wire.block().await;
    assert!(now_s() >= expires_s, "{} of {expires_s}", now_s());
}

#[tokio::test]
async fn a_token_within_its_leeway_opens_a_stream_that_ends_at_once() {
    let hub = hub(&[("auth.leeway_s", "60")]).await;
    let late =
        signed_claims(&json!({"sub": "a", "exp": now_s() - 5, "visnyk": {"subscribe": ["a"]}}));
    let (mut wire, _) = stream(&hub, &late, STREAM).await;
    assert!(wire.block().await.contains("visnyk.token_expired"));
}

#[tokio::test]
async fn a_waiting_poll_is_answered_when_its_token_expires() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    let token = lasting("ann", 2, &["a"]);
    wire.send(super::with(&token, "GET", "/v1/channels/a/poll?timeout=60", "")).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 204, "{answer:?}");
    // The connection goes on, and asks for a token again.
    wire.send(super::with(&lasting("ann", 60, &["a"]), "GET", "/v1/channels/a/poll?timeout=0", ""))
        .await;
    assert_eq!(wire.answer().await.status, 204);
}

#[tokio::test]
async fn a_fresh_token_lets_a_stream_go_on() {
    let hub = hub(&[]).await;
    let (mut wire, id) = stream(&hub, &lasting("ann", 2, &["a"]), STREAM).await;
    let (mut later, _) = stream(&hub, &lasting("bob", 3, &["a"]), STREAM).await;
    let fresh = lasting("ann", 600, &["a", "b"]);
    let target = format!("/v1/connections/{id}/token");
    let answer = ask_with(&hub, &fresh, "POST", &target, "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let shown = ask_with(&hub, &fresh, "GET", &format!("/v1/connections/{id}"), "").await.json();
    assert_eq!(shown["identity"], "ann");
    // Past the first token's end, since a stream that was to last longer has ended, it still
    // receives.
    assert!(later.block().await.contains("visnyk.token_expired"));
    let published = ask_with(&hub, &fresh, "POST", "/v1/channels/a/events", "later").await;
    assert_eq!(published.status, 201, "{published:?}");
    let block = wire.block().await;
    assert!(block.starts_with("data: later\n"), "{block}");
}

#[tokio::test]
async fn a_shorter_token_ends_a_stream_sooner() {
    let hub = hub(&[]).await;
    let (mut wire, id) = stream(&hub, &lasting("ann", 600, &["a"]), STREAM).await;
    let target = format!("/v1/connections/{id}/token");
    let shorter = lasting("ann", 2, &["a"]);
    assert_eq!(ask_with(&hub, &shorter, "POST", &target, "").await.status, 204);
    assert!(wire.block().await.contains("visnyk.token_expired"));
}

#[tokio::test]
async fn a_fresh_token_of_less_ends_the_stream() {
    let hub = hub(&[]).await;
    let target = "/v1/events?channel=a&channel=b&hello=1";
    let (mut wire, id) = stream(&hub, &lasting("ann", 600, &["a", "b"]), target).await;
    let renew = format!("/v1/connections/{id}/token");
    forbidden(&ask_with(&hub, &lasting("ann", 600, &["a"]), "POST", &renew, "").await);
    let last_words = wire.block().await;
    assert_eq!(last_words, "event: visnyk.token_expired\ndata: {\"reason\":\"permissions\"}\n\n");
    assert!(wire.block().await.starts_with("retry: "));
    wire.closed().await;
    let closed = "visnyk_connections_closed_total{reason=\"token_outgrown\"}";
    assert_eq!(metric(&hub, closed).await, 1);
}

#[tokio::test]
async fn a_connection_takes_tokens_of_its_own_subject_only() {
    let hub = hub(&[]).await;
    let (mut wire, id) = stream(&hub, &lasting("ann", 600, &["a"]), STREAM).await;
    let renew = format!("/v1/connections/{id}/token");
    let nameless = token(json!({"visnyk": {"subscribe": ["**"]}}));
    for other in [grant("bob", &["**"], &[]), grant("ann ", &["**"], &[]), nameless, admin()] {
        let answer = ask_with(&hub, &other, "POST", &renew, "").await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    for target in
        ["/v1/connections/999999/token", "/v1/connections/x/token", "/v1/connections/-1/token"]
    {
        let answer = ask_with(&hub, &grant("ann", &["**"], &[]), "POST", target, "").await;
        assert_eq!(answer.status, 404, "{target}: {answer:?}");
    }
    // None of them did anything to it.
    let published =
        ask_with(&hub, &lasting("ann", 60, &[]), "POST", "/v1/channels/a/events", "on").await;
    assert_eq!(published.status, 201);
    assert!(wire.block().await.starts_with("data: on\n"));
    // A stream without a subject cannot be extended.
    let no_subject = token(json!({"visnyk": {"subscribe": ["**"]}}));
    let (_wire, id) = stream(&hub, &no_subject, STREAM).await;
    let renew = format!("/v1/connections/{id}/token");
    assert_eq!(ask_with(&hub, &no_subject, "POST", &renew, "").await.status, 404);
}

#[tokio::test]
async fn a_stream_that_has_ended_takes_no_token() {
    let hub = hub(&[]).await;
    let (wire, id) = stream(&hub, &lasting("ann", 600, &["a"]), STREAM).await;
    drop(wire);
    nothing_is_left(&hub).await;
    let renew = format!("/v1/connections/{id}/token");
    let answer = ask_with(&hub, &lasting("ann", 600, &["a"]), "POST", &renew, "").await;
    assert_eq!(answer.status, 404, "{answer:?}");
}
