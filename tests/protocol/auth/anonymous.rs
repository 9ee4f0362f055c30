//! What is open to requests without a token.

use super::{
    ask_with, forbidden, hub,
    tokens::grant,
    wire::{Wire, ask, get, post},
};

#[tokio::test]
async fn anonymous_clients_subscribe_to_what_is_open_to_them_and_publish_nowhere() {
    let hub = hub(&[("allow_anonymous", "news/**,default,users/{sub}")]).await;
    for (request, status) in [
        (get("/v1/channels/news%2Ftoday/poll?timeout=0"), 204),
        (get("/v1/poll?channel=news/*&timeout=0"), 204),
        (get("/v1/channels/other/poll?timeout=0"), 401),
        (get("/v1/poll?channel=**&timeout=0"), 401),
        (get("/v1/poll?channel=news/a&channel=other&timeout=0"), 401),
        // Without a subject, a template matches nothing.
        (get("/v1/poll?channel=users/%7Bsub%7D&timeout=0"), 401),
        (post("/v1/channels/news/events", "x"), 401),
        (post("/publish", "{\"message\":\"x\"}"), 401),
        (get("/v1/connections"), 401),
        (get("/v1/channels/other"), 401),
        (get("/v1/channels"), 200),
    ] {
        let answer = ask(&hub, &request).await;
        assert_eq!(answer.status, status, "{request}{answer:?}");
    }
    let mut stream = Wire::to(&hub).await;
    stream.send(get("/events")).await;
    stream.stream_head().await;
    // A bad token is refused, where none would have been good enough.
    let answer = ask_with(&hub, "not.a.token", "GET", "/events", "").await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test]
async fn what_is_open_to_all_is_open_to_holders_of_tokens_too() {
    let hub = hub(&[("allow_anonymous", "news,users/{sub}")]).await;
    let ann = grant("ann", &["own"], &[]);
    for (channel, status) in [("news", 204), ("own", 204), ("users/ann", 204), ("users/bob", 403)] {
        let target = format!("/v1/poll?timeout=0&channel={channel}");
        assert_eq!(ask_with(&hub, &ann, "GET", &target, "").await.status, status, "{channel}");
    }
    // A subject that cannot be a segment loses only the patterns with `{sub}`.
    let odd = grant("a/b", &[], &[]);
    assert_eq!(
        ask_with(&hub, &odd, "GET", "/v1/poll?timeout=0&channel=news", "").await.status,
        204
    );
    forbidden(&ask_with(&hub, &odd, "GET", "/v1/poll?timeout=0&channel=users/a", "").await);
}
