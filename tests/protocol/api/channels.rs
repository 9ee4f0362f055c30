//! What channels there are.

use serde_json::{Value, json};

use super::wire::{Wire, ask, get, hub, metric_is, post, published, request};

#[tokio::test]
async fn a_channel_is_described() {
    let hub = hub(&[]).await;
    assert_eq!(ask(&hub, get("/v1/channels/a%2Fb")).await.status, 404);
    let first = ask(&hub, post("/v1/events?channel=a/b", "one")).await.json()["id"].clone();
    let last = ask(&hub, post("/v1/events?channel=a/b", "two")).await.json()["id"].clone();
    let mut stream = Wire::to(&hub).await;
    stream.send(get("/v1/channels/a%2Fb/events")).await;
    stream.stream_head().await;
    let mut poll = Wire::to(&hub).await;
    poll.send(get("/v1/channels/a%2Fb/poll")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    let info = ask(&hub, get("/v1/channels/a%2Fb")).await.json();
    // With the framing of the chunk.
    let bytes: usize = [&first, &last]
        .map(|id| format!("0000001b\r\ndata: one\nid: {}\n\n\r\n", id.as_str().unwrap()).len())
        .iter()
        .sum();
    let expected = json!({
        "channel": "a/b",
        "subscribers": 1,
        "pollers": 1,
        "events_total": 2,
        "events_retained": 2,
        "bytes_retained": bytes,
        "truncated": false,
        "first_id": first,
        "last_id": last,
        "closed": false,
    });
    assert_eq!(info, expected);
    drop((stream, poll));
    super::wire::nothing_is_left(&hub).await;
    let info = ask(&hub, get("/v1/channels/a%2Fb")).await.json();
    assert_eq!((&info["subscribers"], &info["pollers"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_channel_exists_from_its_first_subscription() {
    let hub = hub(&[]).await;
    let answer = ask(&hub, get("/v1/channels/a")).await;
    assert_eq!((answer.status, &answer.problem()["channel"]), (404, &json!("a")));
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/events")).await;
    wire.stream_head().await;
    let info = ask(&hub, get("/v1/channels/a")).await.json();
    let nothing = (&info["events_retained"], &info["first_id"], &info["last_id"]);
    assert_eq!(nothing, (&json!(0), &Value::Null, &Value::Null));
}

#[tokio::test]
async fn channels_are_listed_page_by_page_in_the_order_of_their_names() {
    let hub = hub(&[]).await;
    assert_eq!(ask(&hub, get("/v1/channels")).await.json(), json!({"channels": []}));
    let mut names: Vec<String> = (0..25).map(|n| format!("c{n}")).collect();
    names.extend(["a", "Z", "і", "c1/x"].map(str::to_owned));
    for name in &names {
        let name = visnyk_loadtest::percent_encode(name);
        published(&hub, &name, "x").await;
    }
    names.sort();
    for limit in [1, 7, 29, 1000] {
        let (mut after, mut listed) = (None::<String>, Vec::new());
        loop {
            let mut target = format!("/v1/channels?limit={limit}");
            if let Some(after) = &after {
                target += &format!("&after={}", visnyk_loadtest::percent_encode(after));
            }
            let page = ask(&hub, get(&target)).await.json();
            let channels = page["channels"].as_array().unwrap();
            assert!(channels.len() <= limit);
            listed.extend(channels.iter().map(|c| c["channel"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(listed, names, "limit {limit}");
    }
    let page = ask(&hub, get("/v1/channels?after=zzz")).await.json();
    assert_eq!(page["channels"][0]["channel"], "і", "any text has a rank in the order");
}

#[tokio::test]
async fn a_prefix_leaves_out_all_other_names() {
    let hub = hub(&[]).await;
    for name in ["a", "orders", "orders%2Feu", "orders%2Fus", "other"] {
        published(&hub, name, "x").await;
    }
    for (query, expected, next) in [
        ("prefix=orders", &["orders", "orders/eu", "orders/us"][..], None),
        ("prefix=orders/&limit=1", &["orders/eu"], Some("orders/eu")),
        ("prefix=orders/&limit=1&after=orders/eu", &["orders/us"], None),
        ("prefix=z", &[], None),
        ("prefix=", &["a", "orders", "orders/eu", "orders/us", "other"], None),
    ] {
        let page = ask(&hub, get(&format!("/v1/channels?{query}"))).await.json();
        let listed = page["channels"].as_array().unwrap();
        let names: Vec<&str> = listed.iter().map(|c| c["channel"].as_str().unwrap()).collect();
        assert_eq!((&names[..], page["next"].as_str()), (expected, next), "{query}");
    }
}

#[tokio::test]
async fn a_channel_is_named_in_the_query_where_a_proxy_rejects_an_encoded_slash() {
    let hub = hub(&[]).await;
    published(&hub, "a%2Fb", "x").await;
    let shown = ask(&hub, get("/v1/channel?channel=a/b")).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.json(), ask(&hub, get("/v1/channels/a%2Fb")).await.json());
    for query in ["", "?channel=", "?channel=a&channel=b", "?channel=%ff", "?channel=a/*"] {
        let target = format!("/v1/channel{query}");
        for method in ["GET", "DELETE"] {
            ask(&hub, request(method, &target, &[], "")).await.refuses(400, "channel");
        }
    }
    assert_eq!(ask(&hub, get("/v1/channel?channel=none")).await.status, 404);
    let closed = ask(&hub, request("DELETE", "/v1/channel?channel=a/b", &[], "")).await;
    assert_eq!(closed.status, 204, "{closed:?}");
    assert_eq!(ask(&hub, get("/v1/channels/a%2Fb/poll?timeout=0")).await.status, 410);
}
