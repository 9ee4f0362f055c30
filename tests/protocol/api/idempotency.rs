//! `Idempotency-Key`: a retry publishes nothing and repeats the first answer.

use super::{
    NDJSON, retained,
    wire::{Answer, ask, get, hub, request},
};
use visnyk_loadtest::Hub;

async fn publish(hub: &Hub, target: &str, key: &str, body: &str) -> Answer {
    ask(hub, request("POST", target, &[("Idempotency-Key", key)], body)).await
}

#[tokio::test]
async fn a_retry_repeats_the_first_answer() {
    let hub = hub(&[]).await;
    let first = publish(&hub, "/v1/channels/a/events", "k", "x").await;
    assert_eq!(first.status, 201);
    assert!(!first.has("idempotent-replayed"));
    for _ in 0..3 {
        let again = publish(&hub, "/v1/channels/a/events", "k", "x").await;
        assert_eq!((again.status, again.field("idempotent-replayed")), (201, "true"));
        assert_eq!(again.json(), first.json());
    }
    assert_eq!(retained(&hub, "a").await.len(), 1);
}

#[tokio::test]
async fn a_retried_batch_repeats_the_first_answer() {
    let hub = hub(&[]).await;
    let lines = "{\"data\":1,\"channel\":\"a\"}\n{\"data\":2,\"channel\":\"b\"}\n";
    let send = request("POST", "/v1/events", &[NDJSON, ("Idempotency-Key", "k")], lines);
    let first = ask(&hub, &send).await;
    let again = ask(&hub, &send).await;
    assert_eq!((again.status, again.field("idempotent-replayed")), (201, "true"));
    assert_eq!(again.json(), first.json());
    assert_eq!(retained(&hub, "**").await.len(), 2);
}

#[tokio::test]
async fn another_publish_under_the_key_is_refused() {
    let hub = hub(&[]).await;
    publish(&hub, "/v1/channels/a/events", "k", "x").await;
    for (target, body) in [
        ("/v1/channels/a/events", "y"),
        ("/v1/channels/a/events", ""),
        ("/v1/channels/a/events?type=t", "x"),
        ("/v1/channels/a/events?retry=1", "x"),
    ] {
        publish(&hub, target, "k", body).await.refuses(422, "Idempotency-Key");
    }
    let as_batch = [NDJSON, ("Idempotency-Key", "k")];
    let answer =
        ask(&hub, request("POST", "/v1/channels/a/events", &as_batch, "{\"data\":1}")).await;
    answer.refuses(422, "Idempotency-Key");
    assert_eq!(retained(&hub, "a").await.len(), 1);
}

#[tokio::test]
async fn a_key_belongs_to_its_route() {
    let hub = hub(&[]).await;
    for target in ["/v1/channels/a/events", "/v1/channels/b/events", "/v1/events?channel=c"] {
        let answer = publish(&hub, target, "k", "x").await;
        assert!(answer.status == 201 && !answer.has("idempotent-replayed"), "{target}: {answer:?}");
    }
    // The channel of the query is part of what was published there.
    publish(&hub, "/v1/events?channel=d", "k", "x").await.refuses(422, "Idempotency-Key");
    assert_eq!(retained(&hub, "**").await.len(), 3);
}

#[tokio::test]
async fn a_refused_publish_leaves_its_key_free() {
    let hub = hub(&[]).await;
    publish(&hub, "/v1/channels/a/events?type=visnyk.x", "k", "x").await.refuses(400, "type");
    assert_eq!(publish(&hub, "/v1/channels/a/events", "k", "y").await.status, 201);
}

#[tokio::test]
async fn a_retry_after_the_channel_was_closed_still_repeats_the_answer() {
    let hub = hub(&[]).await;
    let first = publish(&hub, "/v1/channels/a/events", "k", "x").await;
    ask(&hub, request("DELETE", "/v1/channels/a", &[], "")).await;
    let again = publish(&hub, "/v1/channels/a/events", "k", "x").await;
    assert_eq!((again.status, again.json()), (201, first.json()));
    assert_eq!(publish(&hub, "/v1/channels/a/events", "other", "x").await.status, 410);
}

#[tokio::test]
async fn keys_expire_after_their_time_and_past_their_number() {
    let hub =
        hub(&[("limits.publish.idempotency_s", "1"), ("limits.publish.idempotency_keys_max", "2")])
            .await;
    let target = "/v1/channels/a/events";
    for key in ["1", "2", "3"] {
        publish(&hub, target, key, "x").await;
    }
    assert!(publish(&hub, target, "3", "x").await.has("idempotent-replayed"));
    assert!(!publish(&hub, target, "1", "x").await.has("idempotent-replayed"));
    // A poll on a channel where nothing happens is a clock: it ends when the second has passed.
    ask(&hub, get("/v1/channels/quiet/poll?timeout=2")).await;
    assert!(!publish(&hub, target, "1", "x").await.has("idempotent-replayed"));
}

#[tokio::test]
async fn a_key_has_1_to_255_visible_characters() {
    let hub = hub(&[]).await;
    let target = "/v1/channels/a/events";
    for key in ["k", &"k".repeat(255), "a b/c:{}\"!"] {
        assert_eq!(publish(&hub, target, key, "x").await.status, 201, "{key}");
    }
    for key in ["", &"k".repeat(256), "ключ"] {
        publish(&hub, target, key, "x").await.refuses(400, "Idempotency-Key");
    }
    // Which of two keys counts would be chance.
    for keys in [["1", "2"], ["1", "1"]] {
        let fields = keys.map(|key| ("Idempotency-Key", key));
        let answer = ask(&hub, request("POST", target, &fields, "x")).await;
        answer.refuses(400, "Idempotency-Key");
    }
}
