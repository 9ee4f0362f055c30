//! The spans of one publish, on each storage.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use visnyk_loadtest::RedisServer;

use super::{
    PARENT, TRACE,
    collector::{Behaviour, Collector, SpanSeen, attributes_of},
    hub_with, only, sampled,
};
use crate::support::{TestHub, data_of};

/// The page that says what each span and attribute is.
const PAGE: &str = include_str!("../../../docs/traces.md");
const REQUEST: &str = "POST /v1/channels/{channel}/events";

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
    u64::try_from(since.as_nanos()).expect("it is not that late")
}

/// Publishes one event in a client's trace to three connections, and gives the spans.
async fn publish_to_three(hub: &TestHub, collector: &Collector) -> Vec<SpanSeen> {
    let mut streams = Vec::new();
    for query in ["channel=a", "channel=a", "channel=*&channel=b"] {
        streams.push(hub.stream(query, "now").await);
    }
    let before_ns = now_ns();
    let parent = sampled();
    let fields =
        [("traceparent", &*parent), ("tracestate", "rojo=1,congo=2"), ("X-Request-Id", "r-1")];
    let answer = hub.request("POST", "/v1/channels/a/events", &fields, "hello").await;
    assert_eq!(answer.status(), 201, "{}", answer.body);
    // It is the client's trace: an answer has nothing to add (W3C Trace Context has no such field).
    assert!(answer.head.field("traceparent").is_none());
    for stream in &mut streams {
        assert_eq!(data_of(stream, 1).await, ["hello"]);
    }
    let is_whole = |spans: &[SpanSeen]| {
        let has = |name: &str| spans.iter().any(|span| span.name == name);
        has("fan_out") && has(REQUEST)
    };
    let spans = collector.wait_for(is_whole).await;
    let after_ns = now_ns();
    for span in &spans {
        let names = span.attributes.keys().chain([&span.name]);
        for name in names {
            assert!(PAGE.contains(&format!("`{name}`")), "docs/traces.md lacks {name}");
        }
        assert_eq!(span.trace, TRACE);
        assert_eq!(span.state.as_deref(), Some("rojo=1,congo=2"));
        assert!(before_ns <= span.began_ns && span.ended_ns <= after_ns, "{span:#?}");
        assert!(!span.is_error, "{span:#?}");
    }
    let request = only(&spans, REQUEST);
    assert_eq!((request.parent.as_deref(), request.kind, request.flags), (Some(PARENT), 2, 0x301));
    for (key, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/v1/channels/{channel}/events")),
        ("url.path", json!("/v1/channels/a/events")),
        ("url.scheme", json!("http")),
        ("http.response.status_code", json!(201)),
        ("client.address", json!("127.0.0.1")),
        ("network.protocol.version", json!("1.1")),
        ("visnyk.request_id", json!("r-1")),
    ] {
        assert_eq!(request.attributes[key], value, "{key}");
    }
    let publish = only(&spans, "publish");
    publish.is_within(request);
    assert_eq!((publish.kind, publish.flags), (1, 0x101));
    for (key, value) in [
        ("messaging.system", json!("visnyk")),
        ("messaging.operation.name", json!("publish")),
        ("messaging.operation.type", json!("send")),
        ("messaging.destination.name", json!("a")),
        ("messaging.batch.message_count", json!(1)),
        ("messaging.message.id", answer.json()["id"].clone()),
        ("visnyk.replayed", json!(false)),
    ] {
        assert_eq!(publish.attributes[key], value, "{key}");
    }
    only(&spans, "admit").is_within(publish);
    let append = only(&spans, "append");
    append.is_within(publish);
    only(&spans, "show").is_within(append);
    // The fan-out begins with what is shown, and may outlast the answer.
    let fan_out = only(&spans, "fan_out");
    assert_eq!(fan_out.parent.as_deref(), Some(&*publish.id));
    assert_eq!(fan_out.began_ns, only(&spans, "show").ended_ns);
    let rounds: Vec<_> = spans.iter().filter(|span| span.name == "round").collect();
    rounds.iter().for_each(|round| round.is_within(fan_out));
    let connections = |span: &SpanSeen| span.attributes["visnyk.connections"].as_u64().expect("n");
    assert_eq!(rounds.iter().map(|round| connections(round)).sum::<u64>(), 3, "{rounds:#?}");
    assert_eq!(connections(fan_out), 3);
    assert_eq!(fan_out.attributes["visnyk.rounds"], rounds.len());
    let lanes = |lane: &str| -> u64 {
        let of_lane = rounds.iter().filter(|round| round.attributes["visnyk.lane"] == lane);
        of_lane.map(|round| connections(round)).sum()
    };
    // On a busy shard the events of small channels gather in lanes too.
    let plain = lanes("small") + lanes("large");
    assert_eq!((plain, lanes("mixed")), (2, 1), "{rounds:#?}");
    spans
}

#[tokio::test]
async fn a_publish_in_memory_has_one_tree() {
    let collector = Collector::start(Behaviour::Takes).await;
    let settings = [
        ("traces.headers", "authorization=Bearer abc,x-team=a"),
        ("traces.service_name", "prices"),
        ("node", "edge-1"),
    ];
    let hub = hub_with(&collector, &settings).await;
    let spans = publish_to_three(&hub, &collector).await;
    let append = only(&spans, "append");
    only(&spans, "prepare").is_within(append);
    assert_eq!(append.attributes["visnyk.storage"], "memory");
    assert!(spans.iter().all(|span| span.name != "make_durable"), "{spans:#?}");
    let request = &collector.requests()[0];
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(
        (&request.headers["authorization"], &request.headers["x-team"]),
        (&"Bearer abc".parse().expect("a value"), &"a".parse().expect("a value"))
    );
    let resource = attributes_of(&request.body["resourceSpans"][0]["resource"]);
    assert_eq!(
        (&resource["service.name"], &resource["host.name"]),
        (&json!("prices"), &json!("edge-1"))
    );
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(resource["service.instance.id"].as_str().is_some_and(|id| id.len() == 16));
    let exported = spans.len() as f64;
    hub.wait_for_metric("visnyk_trace_spans_exported_total", |count| count == exported).await;
}

#[tokio::test]
async fn a_publish_to_a_disk_shows_its_write_and_its_fsync() {
    let directory = tempfile::tempdir().expect("a directory");
    let collector = Collector::start(Behaviour::Takes).await;
    let data_dir = directory.path().to_str().expect("UTF-8");
    let hub = hub_with(&collector, &[("data_dir", data_dir)]).await;
    let spans = publish_to_three(&hub, &collector).await;
    let append = only(&spans, "append");
    only(&spans, "prepare").is_within(append);
    assert_eq!(append.attributes["visnyk.storage"], "disk");
    let durable = only(&spans, "make_durable");
    durable.is_within(append);
    let (write, sync) = (only(&spans, "write"), only(&spans, "fsync"));
    write.is_within(durable);
    sync.is_within(durable);
    assert!(write.ended_ns <= sync.began_ns && write.attributes["visnyk.batch.events"] == 1);
    assert!(durable.ended_ns <= only(&spans, "show").began_ns);
}

#[tokio::test]
async fn a_publish_to_redis_shows_the_call_of_the_server() {
    let server = RedisServer::start(&[]);
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[("backend.url", &server.url())]).await;
    let spans = publish_to_three(&hub, &collector).await;
    let append = only(&spans, "append");
    assert_eq!(append.attributes["visnyk.storage"], "redis");
    let durable = only(&spans, "make_durable");
    durable.is_within(append);
    let call = only(&spans, "redis append");
    call.is_within(durable);
    assert_eq!((call.kind, &call.attributes["db.system.name"]), (3, &json!("redis")));
}

#[tokio::test]
async fn a_refused_publish_says_why() {
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[]).await;
    let parent = sampled();
    let key = |body: &'static str| {
        let (hub, parent) = (&hub, &*parent);
        async move {
            let fields = [("traceparent", parent), ("Idempotency-Key", "k")];
            hub.request("POST", "/v1/channels/a/events", &fields, body).await.status()
        }
    };
    assert_eq!([key("x").await, key("x").await, key("y").await], [201, 201, 422]);
    let requests = |spans: &[SpanSeen]| spans.iter().filter(|span| span.name == REQUEST).count();
    let spans = collector.wait_for(|spans| requests(spans) == 3).await;
    let mut errors: Vec<_> = spans
        .iter()
        .filter(|span| span.is_error)
        .map(|span| (&*span.name, span.attributes["error.type"].as_str().expect("a word")))
        .collect();
    errors.sort_unstable();
    // For the server a mistake of its client does not count.
    assert_eq!(errors, [("append", "key_reused"), ("publish", "key_reused")]);
    let replayed =
        spans.iter().filter(|span| span.attributes.get("visnyk.replayed") == Some(&json!(true)));
    assert_eq!(replayed.count(), 1);
    assert_eq!(spans.iter().filter(|span| span.name == "fan_out").count(), 1, "{spans:#?}");
}
