//! Every route, without a token, with one that allows nothing, and with the right one.

use serde_json::{Value, json};
use visnyk::http::{AccessPolicy, ROUTES};

use super::{
    ask_with, forbidden, hub,
    tokens::{admin, grant, token},
    wire::{Wire, ask, post, request},
};

/// What everyone may have, token or not.
const OPEN: [&str; 9] = [
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/visnyk.js",
    "/visnyk.d.ts",
    "/",
    "/console/{file}",
    "/favicon.svg",
    // Open to this machine: `auth.metrics`.
    "/metrics",
];

fn concrete(path: &str) -> String {
    path.replace("{channel}", "a").replace("{id}", "1").replace("{file}", "console.js")
}

#[tokio::test]
async fn no_route_but_the_listed_ones_is_open_without_a_token() {
    let hub = hub(&[("faults", "true")]).await;
    let mut shut = 0;
    for route in ROUTES {
        let open = OPEN.contains(&route.path);
        assert_eq!(
            open,
            matches!(route.access, AccessPolicy::Open | AccessPolicy::Metrics),
            "{}",
            route.path
        );
        // Preflights carry no tokens.
        for method in route.allow.split(", ").filter(|method| *method != "OPTIONS") {
            let target = format!("{}?channel=a", concrete(route.path));
            let mut wire = Wire::to(&hub).await;
            wire.send(request(method, &target, &[], "")).await;
            let answer = if method == "HEAD" { wire.head().await } else { wire.answer().await };
            if open {
                assert_eq!(answer.status, 200, "{method} {target}: {answer:?}");
                continue;
            }
            shut += 1;
            assert_eq!(answer.status, 401, "{method} {target}: {answer:?}");
            assert_eq!(answer.field("www-authenticate"), "Bearer realm=\"visnyk\"");
        }
    }
    assert!(shut >= 20, "{shut}");
    let planted = ask(&hub, post("/faults/shard", "")).await;
    assert_eq!(planted.status, 401, "{planted:?}");
    let planted =
        ask_with(&hub, &grant("ann", &["**"], &["**"]), "POST", "/faults/shard", "").await;
    forbidden(&planted);
}

#[tokio::test]
async fn a_token_without_permissions_may_do_nothing() {
    let hub = hub(&[]).await;
    let powerless = token(json!({"sub": "ann"}));
    let lines = "{\"data\":1,\"channel\":\"a\"}\n";
    for (method, target, body) in [
        ("POST", "/v1/channels/a/events", "x"),
        ("POST", "/v1/events?channel=a", "x"),
        ("GET", "/v1/channels/a/events", ""),
        ("GET", "/v1/events?channel=a", ""),
        ("GET", "/v1/channels/a/poll", ""),
        ("GET", "/v1/poll?channel=**", ""),
        ("HEAD", "/v1/channels/a/poll", ""),
        ("GET", "/v1/channels/a", ""),
        ("DELETE", "/v1/channels/a", ""),
        ("DELETE", "/v1/connections/1", ""),
        ("GET", "/v1/status", ""),
        ("GET", "/v1/samples", ""),
        ("POST", "/publish", "{\"message\":\"x\"}"),
        ("GET", "/subscribe", ""),
        ("GET", "/events", ""),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(super::with(&powerless, method, target, body)).await;
        let answer = wire.head().await;
        assert_eq!(answer.status, 403, "{method} {target}: {answer:?}");
    }
    let ndjson =
        [("Authorization", &*super::bearer(&powerless)), ("Content-Type", "application/x-ndjson")];
    forbidden(&ask(&hub, request("POST", "/v1/events", &ndjson, lines)).await);
    let list = ask_with(&hub, &powerless, "GET", "/v1/channels", "").await;
    assert_eq!(list.json(), json!({"channels": []}));
    // Nothing was published.
    let all = ask_with(&hub, &admin(), "GET", "/v1/channels", "").await;
    assert_eq!(all.json(), json!({"channels": []}));
}

#[tokio::test]
async fn publishing_needs_every_channel_of_a_batch() {
    let hub = hub(&[]).await;
    let ann = grant("ann", &["**"], &["in/*"]);
    let answer = ask_with(&hub, &ann, "POST", "/v1/channels/in%2Fa/events", "x").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let refused = ask_with(&hub, &ann, "POST", "/v1/channels/out/events", "x").await;
    forbidden(&refused);
    assert_eq!(refused.problem()["channel"], "out");
    let ndjson =
        [("Authorization", &*super::bearer(&ann)), ("Content-Type", "application/x-ndjson")];
    let lines = "{\"data\":1,\"channel\":\"in/a\"}\n{\"data\":2,\"channel\":\"in/b/c\"}\n";
    let refused = ask(&hub, request("POST", "/v1/events", &ndjson, lines)).await;
    forbidden(&refused);
    assert_eq!(refused.problem()["channel"], "in/b/c");
    let target = "/v1/poll?channel=**&last_event_id=earliest&timeout=0";
    let retained = ask_with(&hub, &ann, "GET", target, "").await.json();
    assert_eq!(retained["events"].as_array().unwrap().len(), 1, "accepted whole or not at all");
}

#[tokio::test]
async fn a_pattern_has_to_lie_within_a_granted_one() {
    let hub = hub(&[]).await;
    let ann = grant("ann", &["users/{sub}/**", "news/*"], &[]);
    for (channel, status) in [
        ("users/ann", 204),
        ("users/ann/inbox", 204),
        ("users/ann/**", 204),
        ("users/ann/*/x", 204),
        ("news/*", 204),
        ("news/today", 204),
        ("users/bob", 403),
        ("users/*", 403),
        ("users/**", 403),
        ("users/{sub}/x", 403),
        ("**", 403),
        ("*/ann/**", 403),
        ("news/**", 403),
        ("news", 403),
    ] {
        let channel = channel.replace('{', "%7B").replace('}', "%7D");
        let target = format!("/v1/poll?timeout=0&channel={channel}");
        let answer = ask_with(&hub, &ann, "GET", &target, "").await;
        assert_eq!(answer.status, status, "{channel}: {answer:?}");
        // One that is not allowed spoils the others.
        let target = format!("/v1/poll?timeout=0&channel=users/ann&channel={channel}");
        assert_eq!(ask_with(&hub, &ann, "GET", &target, "").await.status, status, "{channel}");
    }
}

#[tokio::test]
async fn listings_show_what_the_subject_may_subscribe_to() {
    let hub = hub(&[]).await;
    let writer = grant("w", &[], &["**"]);
    for channel in ["a", "b", "users%2Fann", "users%2Fbob", "z"] {
        let target = format!("/v1/channels/{channel}/events");
        assert_eq!(ask_with(&hub, &writer, "POST", &target, "x").await.status, 201);
    }
    let names = |answer: &Value| -> Vec<String> {
        let channels = answer["channels"].as_array().unwrap();
        channels.iter().map(|c| c["channel"].as_str().unwrap().to_owned()).collect()
    };
    let ann = grant("ann", &["users/{sub}", "z"], &[]);
    let page = ask_with(&hub, &ann, "GET", "/v1/channels?limit=1", "").await.json();
    assert_eq!(names(&page), ["users/ann"]);
    assert_eq!(page["next"], "users/ann", "a page names no other channel");
    let page = ask_with(&hub, &ann, "GET", "/v1/channels?after=users/ann", "").await.json();
    assert_eq!(names(&page), ["z"]);
    assert_eq!(page["next"], Value::Null);
    assert_eq!(ask_with(&hub, &ann, "GET", "/v1/channels/z", "").await.status, 200);
    // The answer does not say whether another's channel exists.
    forbidden(&ask_with(&hub, &ann, "GET", "/v1/channels/users%2Fbob", "").await);
    forbidden(&ask_with(&hub, &ann, "GET", "/v1/channels/users%2Fnone", "").await);
    let all = ask_with(&hub, &admin(), "GET", "/v1/channels", "").await.json();
    assert_eq!(names(&all).len(), 5);
    forbidden(
        &ask_with(&hub, &grant("ann", &["**"], &["**"]), "DELETE", "/v1/channels/z", "").await,
    );
    assert_eq!(ask_with(&hub, &admin(), "DELETE", "/v1/channels/z", "").await.status, 204);
}

#[tokio::test]
async fn connections_are_seen_by_their_subject_and_by_admins() {
    let hub = hub(&[]).await;
    let (ann, bob) = (grant("ann", &["**"], &[]), grant("bob", &["**"], &[]));
    let mut streams = Vec::new();
    for token in [&ann, &ann, &bob] {
        let mut wire = Wire::to(&hub).await;
        wire.send(super::with(token, "GET", "/v1/channels/a/events?hello=1", "")).await;
        wire.stream_head().await;
        let hello = wire.block().await;
        assert!(hello.contains("visnyk.hello"), "{hello}");
        streams.push(wire);
    }
    let seen = async |token: &str| -> Vec<(String, String)> {
        let page = ask_with(&hub, token, "GET", "/v1/connections", "").await.json();
        let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
        let listed = page["connections"].as_array().unwrap();
        listed.iter().map(|one| (text(&one["id"]), text(&one["identity"]))).collect()
    };
    let of_ann = seen(&ann).await;
    assert_eq!(of_ann.len(), 2);
    assert!(of_ann.iter().all(|(_, identity)| identity == "ann"), "{of_ann:?}");
    assert_eq!(seen(&admin()).await.len(), 3);
    let of_bob = seen(&bob).await;
    let target = format!("/v1/connections/{}", of_bob[0].0);
    assert_eq!(ask_with(&hub, &ann, "GET", &target, "").await.status, 404);
    assert_eq!(ask_with(&hub, &bob, "GET", &target, "").await.status, 200);
    assert_eq!(ask_with(&hub, &admin(), "GET", &target, "").await.status, 200);
    let nameless = token(json!({"visnyk": {"subscribe": ["**"]}}));
    forbidden(&ask_with(&hub, &nameless, "GET", "/v1/connections", "").await);
}

#[tokio::test]
async fn idempotency_keys_are_each_subjects_own() {
    let hub = hub(&[]).await;
    let publish = async |token: &str, data: &str| {
        let authorization = super::bearer(token);
        let fields = [("Authorization", &*authorization), ("Idempotency-Key", "k")];
        ask(&hub, request("POST", "/v1/channels/a/events", &fields, data)).await
    };
    let (ann, bob) = (grant("ann", &[], &["a"]), grant("bob", &[], &["a"]));
    assert_eq!(publish(&ann, "1").await.status, 201);
    assert!(!publish(&bob, "2").await.has("idempotent-replayed"), "another's key is free");
    assert!(publish(&ann, "1").await.has("idempotent-replayed"));
    // A fresh token of the same subject is the same publisher.
    let fresh = token(json!({"sub": "ann", "nbf": 1, "visnyk": {"publish": ["a"]}}));
    assert!(publish(&fresh, "1").await.has("idempotent-replayed"));
    assert_eq!(publish(&bob, "1").await.status, 422);
}
