//! Bad input: each is refused with the field that is wrong, and changes nothing.

use visnyk_loadtest::Hub;

use super::wire::{Answer, Wire, ask, exists, get, hub, metric, post, request};

/// The name of the metric that counts requests past a bound.
fn past(bound: &str) -> String {
    format!("visnyk_requests_refused_total{{reason=\"{bound}\"}}")
}

const LONG: &str = concat!(
    "0123456789012345678901234567890123456789012345678901234567890123",
    "0123456789012345678901234567890123456789012345678901234567890123",
    "0123456789012345678901234567890123456789012345678901234567890123",
    "0123456789012345678901234567890123456789012345678901234567890123",
);

/// Names that no channel has, percent-encoded for a path or query.
const BAD_NAMES: [&str; 13] = [
    "",
    LONG,
    "%2Fa",
    "a%2F",
    "a%2F%2Fb",
    ".",
    "..",
    "a%2F..%2Fb",
    "a%0Ab",
    "a%00b",
    "a%7Fb",
    "%C2%85",
    "a%FF",
];

#[tokio::test]
async fn channel_names() {
    let hub = hub(&[]).await;
    for name in BAD_NAMES.into_iter().chain(["*", "a%2F*", "a*b", "**"]) {
        let subscribing = BAD_NAMES.contains(&name) || name == "a*b";
        for target in [format!("/v1/channels/{name}/events"), format!("/v1/events?channel={name}")]
        {
            ask(&hub, post(&target, "x")).await.refuses(400, "channel");
            if subscribing {
                ask(&hub, get(&target)).await.refuses(400, "channel");
            }
        }
        if !name.is_empty() {
            let target = format!("/v1/channels/{name}");
            ask(&hub, get(&target)).await.refuses(400, "channel");
            ask(&hub, request("DELETE", &target, &[], "")).await.refuses(400, "channel");
        }
        if subscribing {
            ask(&hub, get(&format!("/v1/channels/{name}/poll"))).await.refuses(400, "channel");
            ask(&hub, get(&format!("/v1/poll?channel={name}"))).await.refuses(400, "channel");
        }
    }
    assert_eq!(metric(&hub, "visnyk_channels").await, 0);
}

#[tokio::test]
async fn channels_that_are_missing_or_given_twice() {
    let hub = hub(&[]).await;
    for target in ["/v1/events", "/v1/events?", "/v1/events?x=y"] {
        ask(&hub, get(target)).await.refuses(400, "channel");
        ask(&hub, post(target, "x")).await.refuses(400, "channel");
    }
    ask(&hub, get("/v1/poll")).await.refuses(400, "channel");
    ask(&hub, post("/v1/events?channel=a&channel=b", "x")).await.refuses(400, "channel");
    ask(&hub, post("/v1/channels/a/events?channel=a", "x")).await.refuses(400, "channel");
    assert_eq!(metric(&hub, "visnyk_channels").await, 0);
}

#[tokio::test]
async fn a_connection_names_so_many_channels_and_patterns_and_so_many_types() {
    for max in [3, 100] {
        let setting = max.to_string();
        let hub = hub(&[("limits.connections.subscriptions_max", &*setting)]).await;
        let many = |name: &str, count: usize| -> String {
            (0..count)
                .map(|n| match n {
                    // Patterns count with the channels.
                    0 if name == "channel" => "channel=p/*&".to_owned(),
                    _ => format!("{name}={n}&"),
                })
                .collect()
        };
        for name in ["channel", "type"] {
            let rest = if name == "type" { "channel=a" } else { "" };
            let poll = |count| get(&format!("/v1/poll?timeout=0&{}{rest}", many(name, count)));
            let stream = |count| get(&format!("/v1/events?{}{rest}", many(name, count)));
            assert_eq!(ask(&hub, poll(max)).await.status, 204, "{max} of {name}");
            let mut wire = Wire::to(&hub).await;
            wire.send(stream(max)).await;
            wire.stream_head().await;
            ask(&hub, poll(max + 1)).await.refuses(400, name);
            ask(&hub, stream(max + 1)).await.refuses(400, name);
        }
        assert_eq!(metric(&hub, &past("too_many_subscriptions")).await, 4);
    }
}

#[tokio::test]
async fn event_types() {
    let hub = hub(&[]).await;
    for bad in ["", LONG, "a%0Ab", "a%0D", "%00", "visnyk.", "visnyk.gap", "%FF"] {
        let target = format!("/v1/channels/a/events?type={bad}");
        ask(&hub, post(&target, "x")).await.refuses(400, "type");
        ask(&hub, get(&target)).await.refuses(400, "type");
        ask(&hub, get(&format!("/v1/channels/a/poll?type={bad}"))).await.refuses(400, "type");
    }
    ask(&hub, post("/v1/channels/a/events?type=a&type=b", "x")).await.refuses(400, "type");
    for good in ["visnyk", "Visnyk.x", &LONG[..255]] {
        let target = format!("/v1/channels/a/events?type={good}");
        assert_eq!(ask(&hub, post(&target, "x")).await.status, 201, "{good}");
    }
}

#[tokio::test]
async fn numbers() {
    let hub = hub(&[]).await;
    for bad in ["", "-1", "+1", "1.0", "1e3", "x", "%31%00", "4294967296", "99999999999999999999"] {
        let target = format!("/v1/channels/a/events?retry={bad}");
        ask(&hub, post(&target, "x")).await.refuses(400, "retry");
        for name in ["timeout", "limit"] {
            let target = format!("/v1/channels/a/poll?{name}={bad}");
            ask(&hub, get(&target)).await.refuses(400, name);
        }
        ask(&hub, get(&format!("/v1/channels?limit={bad}"))).await.refuses(400, "limit");
    }
    for (target, field) in [
        ("/v1/channels/a/poll?timeout=61", "timeout"),
        ("/v1/channels/a/poll?limit=0", "limit"),
        ("/v1/channels/a/poll?limit=1001", "limit"),
        ("/v1/channels/a/poll?limit=1&limit=1", "limit"),
        ("/v1/channels?limit=0", "limit"),
        ("/v1/channels?limit=1001", "limit"),
        ("/v1/channels?after=a&after=b", "after"),
    ] {
        let problem = ask(&hub, get(target)).await.refuses(400, field);
        assert!(problem["detail"].as_str().unwrap().contains(field), "{problem}");
    }
    // A number that fits no 32 bits is past every bound, and is counted as no number.
    assert_eq!(metric(&hub, &past("over_maximum")).await, 3);
    assert_eq!(metric(&hub, "visnyk_channels").await, 0);
}

#[tokio::test]
async fn words() {
    let hub = hub(&[]).await;
    for (query, field) in [
        ("format=", "format"),
        ("format=json", "format"),
        ("format=data&format=data", "format"),
        ("hello=", "hello"),
        ("hello=yes", "hello"),
        ("slow=", "slow"),
        ("slow=Skip", "slow"),
    ] {
        ask(&hub, get(&format!("/v1/channels/a/events?{query}"))).await.refuses(400, field);
    }
    // A parameter of a gateway or a link, in whatever encoding, refuses no stream and no poll.
    for query in ["utm=%ff", "%FF=x", "lastEventId=%ff", "last_event_id=earliest&utm=caf%e9"] {
        let answer = ask(&hub, get(&format!("/v1/channels/b/poll?timeout=0&{query}"))).await;
        assert!([200, 204].contains(&answer.status), "{query}: {answer:?}");
    }
    let many = "x&".repeat(4_097);
    ask(&hub, get(&format!("/v1/channels/a/events?{many}"))).await.refuses(400, "query");
    assert_eq!(metric(&hub, &past("too_many_parameters")).await, 1);
    assert!(!exists(&hub, "a").await);
}

#[tokio::test]
async fn positions() {
    let hub = hub(&[]).await;
    for bad in [&LONG[..41], "a b", "a/b", "%D0%B0", "%00"] {
        for route in ["/v1/channels/a/events", "/v1/channels/a/poll", "/events", "/subscribe"] {
            let bad = bad.replace(' ', "%20");
            let answer = ask(&hub, get(&format!("{route}?last_event_id={bad}"))).await;
            answer.refuses(400, "last_event_id");
        }
    }
    ask(&hub, get("/subscribe?after=a%20b")).await.refuses(400, "after");
    for (field, value) in [("last", "x"), ("last", "1&last=2"), ("last_event_id", "a%20b")] {
        let target = format!("/subscribe?after=0&{field}={value}");
        ask(&hub, get(&target)).await.refuses(400, field);
    }
    assert_eq!(metric(&hub, "visnyk_channels").await, 0);
}

#[tokio::test]
async fn data_that_is_not_utf_8() {
    let hub = hub(&[]).await;
    for target in ["/v1/channels/a/events", "/v1/events?channel=a", "/publish"] {
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n");
        let answer = ask(&hub, [head.as_bytes(), b"a\xffb"].concat()).await;
        answer.refuses(400, "body");
    }
    assert_eq!(metric(&hub, "visnyk_events_published_total").await, 0);
}

/// The answer to a publish whose body is in chunks.
async fn transfer_encoded(hub: &Hub, target: &str, coding: &str) -> Answer {
    let mut wire = Wire::to(hub).await;
    let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n");
    wire.send(format!("{head}Transfer-Encoding: {coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n")).await;
    wire.answer().await
}

#[tokio::test]
async fn bodies_that_are_encoded() {
    let hub = hub(&[]).await;
    for target in ["/v1/channels/a/events", "/v1/events?channel=a", "/publish"] {
        for coding in ["gzip", "br, identity", "aes128gcm"] {
            let fields = [("Content-Encoding", coding)];
            ask(&hub, request("POST", target, &fields, "x")).await.refuses(415, "Content-Encoding");
        }
        for coding in [
            "gzip, chunked",
            "deflate , chunked",
            "chunked, chunked",
            ", chunked",
            "chunked\r\nTransfer-Encoding: chunked",
        ] {
            let answer = transfer_encoded(&hub, target, coding).await;
            answer.refuses(501, "Transfer-Encoding");
        }
    }
    let target = "/v1/channels/b/events";
    for coding in ["Identity", "", " ,identity,, identity"] {
        let answer = ask(&hub, request("POST", target, &[("Content-Encoding", coding)], "x")).await;
        assert_eq!(answer.status, 201, "{coding}: {answer:?}");
    }
    for coding in ["chunked", "Chunked", "chunked \t"] {
        let answer = transfer_encoded(&hub, target, coding).await;
        assert_eq!(answer.status, 201, "{coding}: {answer:?}");
    }
    assert_eq!(metric(&hub, "visnyk_events_published_total").await, 6);
}

#[tokio::test]
async fn reconnection_times_longer_than_an_hour() {
    let hub = hub(&[]).await;
    for (retry, status) in [("3600000", 201), ("3600001", 400), ("4294967295", 400)] {
        let answer = ask(&hub, post(&format!("/v1/channels/a/events?retry={retry}"), "x")).await;
        assert_eq!(answer.status, status, "{retry}: {answer:?}");
        let fields = [("Content-Type", "application/x-ndjson")];
        let line = format!(r#"{{"data":"x","retry":{retry}}}"#);
        let answer = ask(&hub, request("POST", "/v1/channels/a/events", &fields, &line)).await;
        assert_eq!(answer.status, status, "{retry}: {answer:?}");
    }
}

#[tokio::test]
async fn parameters_that_are_almost_known() {
    let hub = hub(&[]).await;
    for name in ["Type", "types", "tpye", "rety", "Retry", "channels", "chanel"] {
        let target = format!("/v1/events?channel=a&{name}=1");
        ask(&hub, post(&target, "x")).await.refuses(400, name);
        // An EventSource would never come back.
        let target = format!("/v1/poll?channel=a&timeout=0&{name}=1");
        assert_eq!(ask(&hub, get(&target)).await.status, 204, "{name}");
    }
    for name in ["utm_source", "cache", "_", "nonce"] {
        let target = format!("/v1/events?channel=a&{name}=1");
        assert_eq!(ask(&hub, post(&target, "x")).await.status, 201, "{name}");
    }
}

#[tokio::test]
async fn half_a_surrogate_is_named_as_what_it_is() {
    let hub = hub(&[]).await;
    for member in ["data", "type", "channel"] {
        let fields = [("Content-Type", "application/x-ndjson")];
        let line = format!(r#"{{"data":"x","{member}":"\ud800"}}"#).replacen(
            r#""data":"x","data""#,
            r#""data""#,
            1,
        );
        let answer = ask(&hub, request("POST", "/v1/events?channel=a", &fields, &line)).await;
        answer.refuses(400, member);
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("hex escape"), "{member}: {detail}");
    }
}

#[tokio::test]
async fn a_slash_that_is_not_encoded() {
    let hub = hub(&[]).await;
    let answer = ask(&hub, post("/v1/channels/a/b/events", "x")).await;
    let detail = answer.json()["detail"].to_string();
    assert!(answer.status == 404 && detail.contains("/v1/channels/a%2Fb/events"), "{answer:?}");
}
