//! Plain requests, which the hub reads and answers without hyper (docs/adr/053-plain-answers.md).

use super::wire::{Wire, get, hub, metric_is, published, request};

#[tokio::test]
async fn an_answer_is_the_same_whether_hyper_writes_it_or_the_hub() {
    let hub = hub(&[("cors_origins", "https://app.example")]).await;
    let position = published(&hub, "a", "first").await;
    published(&hub, "a", "second").await;
    let mut wire = Wire::to(&hub).await;
    for target in [
        &*format!("/v1/channels/a/poll?last_event_id={position}"),
        "/v1/channels/a/poll?last_event_id=earliest&timeout=0",
        "/v1/channels/b/poll?timeout=0",
        "/v1/channels/b",
        "/v1/poll",
        "/v1/channels",
        "/healthz",
        "/none",
    ] {
        check(&mut wire, target, &[]).await;
    }
    let foreign = [("Origin", "https://app.example")];
    for fields in [&foreign[..], &[("Accept-Encoding", "gzip")], &[("If-None-Match", "*")]] {
        for target in ["/visnyk.d.ts", "/v1/channels/a/poll?timeout=0&last_event_id=earliest"] {
            check(&mut wire, target, fields).await;
        }
    }
}

/// Compares the two answers.
async fn check(wire: &mut Wire, target: &str, fields: &[(&str, &str)]) {
    // TE sends the request to hyper, whose answer it does not change.
    let answers = [&[][..], &[("TE", "trailers")]].map(|unusual| {
        let fields = [&[("X-Request-Id", "one")], fields, unusual].concat();
        request("GET", target, &fields, "")
    });
    let mut parts = Vec::new();
    for request in answers {
        wire.send(request).await;
        let answer = wire.answer().await;
        let mut fields = answer.fields.clone();
        fields.retain(|(name, _)| name != "date");
        fields.sort_unstable();
        assert!(answer.field("date").ends_with(" GMT"), "{target}: {answer:?}");
        parts.push((answer.status, fields, answer.body.clone()));
    }
    assert_eq!(parts[0], parts[1], "{target} {fields:?}");
}

#[tokio::test]
async fn a_connection_is_kept_after_a_small_answer_and_ended_by_a_client_that_goes() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    for _ in 0..3 {
        wire.send(get("/healthz")).await;
        assert_eq!(wire.answer().await.text(), "ok\n");
    }
    // This one's own.
    metric_is(&hub, "visnyk_http_connections", 2).await;
    drop(wire);
    metric_is(&hub, "visnyk_http_connections", 1).await;
}
