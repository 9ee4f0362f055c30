//! Health, metrics, and what is not there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::is_time;
use super::wire::{Wire, ask, get, hub, metric, metric_is, published, request};

#[tokio::test]
async fn health_and_readiness() {
    let hub = hub(&[]).await;
    for target in ["/healthz", "/readyz"] {
        let answer = ask(&hub, get(target)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn metrics_are_in_the_form_that_is_asked_for() {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    const OLDER: &str = "text/plain; version=0.0.4; charset=utf-8";
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    for (accept, form) in [
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; q=0.8, text/plain; q=0.8", OPENMETRICS),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.3", OLDER),
        ("Application/OpenMetrics-Text", OPENMETRICS),
        ("application/*", OPENMETRICS),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.1, */*", OPENMETRICS),
        (
            "application/openmetrics-text;q=0.5, \
             application/openmetrics-text;version=0.0.1;q=0.2, text/plain;q=0.4",
            OPENMETRICS,
        ),
        ("application/openmetrics-text;Q=0.2, Text/Plain;q=0.3", OLDER),
        ("application/openmetrics-text;q=0, application/*", OLDER),
        ("application/openmetrics-text;q=0, text/html", OLDER),
        ("text/plain", OLDER),
        ("*/*", OLDER),
        ("", OLDER),
    ] {
        let answer = ask(&hub, request("GET", "/metrics", &[("Accept", accept)], "")).await;
        assert_eq!(answer.field("content-type"), form, "{accept}");
        let text = answer.text();
        assert_eq!(text.ends_with("# EOF\n"), form == OPENMETRICS);
        assert!(text.contains("\nvisnyk_events_published_total 1\n"), "{text}");
        let counter = match form {
            OPENMETRICS => "# TYPE visnyk_events_published counter\n",
            _ => "# TYPE visnyk_events_published_total counter\n",
        };
        assert!(text.contains(counter), "{text}");
        assert!(text.contains("# TYPE visnyk_streams gauge\n"), "{text}");
    }
}

#[tokio::test]
async fn metrics_are_there_and_move() {
    let hub = hub(&[]).await;
    let accept = ("Accept", "application/openmetrics-text");
    let answer = ask(&hub, request("GET", "/metrics", &[accept], "")).await;
    assert!(answer.field("content-type").starts_with("application/openmetrics-text"), "{answer:?}");
    assert!(answer.text().ends_with("# EOF\n"));
    for name in [
        "visnyk_events_published_total",
        "visnyk_deliveries_total",
        "visnyk_streams",
        "visnyk_pollers",
        "visnyk_channels",
        "visnyk_history_bytes",
        "visnyk_permits_free",
        "visnyk_connections_opened_total",
    ] {
        let is_there = answer.text().lines().any(|line| line.starts_with(&format!("{name} ")));
        assert!(is_there, "{name} in {}", answer.text());
    }
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/events")).await;
    wire.stream_head().await;
    metric_is(&hub, "visnyk_streams", 1).await;
    published(&hub, "a", "x").await;
    wire.block().await;
    metric_is(&hub, "visnyk_deliveries_total", 1).await;
    metric_is(&hub, "visnyk_events_published_total", 1).await;
    metric_is(&hub, "visnyk_channels", 1).await;
    assert!(metric(&hub, "visnyk_permits_free").await > 0);
}

#[tokio::test]
async fn a_method_that_a_resource_does_not_have_is_405_with_those_it_has() {
    let hub = hub(&[]).await;
    for route in visnyk::http::ROUTES {
        let target = route.path.replace("{channel}", "a");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            if route.allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let answer = ask(&hub, request(method, &target, &[], "")).await;
            assert_eq!(answer.status, 405, "{method} {target}: {answer:?}");
            assert_eq!(answer.field("allow"), route.allow, "{method} {target}");
            answer.problem();
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let hub = hub(&[]).await;
    for target in [
        "/nowhere",
        "/v1",
        "/v1/",
        "/v1/channels/",
        "/v1/channels/a/",
        "/v1/channels/a/nothing",
        "/v2/events",
        "/V1/events",
        "/healthz/",
        "/faults/log",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = ask(&hub, request(method, target, &[], "")).await;
            assert_eq!(answer.status, 404, "{method} {target}: {answer:?}");
            answer.problem();
        }
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let hub = hub(&[]).await;
    let answer = ask(&hub, get("/openapi.json")).await;
    assert_eq!((answer.status, answer.field("content-type")), (200, "application/json"));
    assert_eq!(answer.field("access-control-allow-origin"), "*");
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn status_shows_the_hub_at_one_look() {
    let hub = hub(&[("shards", "1"), ("limits.connections.connections_max", "7")]).await;
    let id = published(&hub, "a", "x").await;
    let mut stream = Wire::to(&hub).await;
    stream.send(get("/v1/channels/a/events?last_event_id=earliest")).await;
    stream.stream_head().await;
    stream.block().await;
    let status = ask(&hub, get("/v1/status")).await.json();
    for (pointer, expected) in [
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/state", json!("ready")),
        ("/history", json!("memory")),
        ("/position", json!(id)),
        ("/shards", json!(1)),
        ("/connections/streams", json!(1)),
        ("/connections/polls", json!(0)),
        ("/connections/max", json!(7)),
        ("/channels/open", json!(1)),
        ("/since_start/events_published", json!(1)),
        ("/since_start/connections_opened", json!(1)),
        ("/since_start/connections_closed/peer_closed", json!(0)),
    ] {
        assert_eq!(status.pointer(pointer), Some(&expected), "{pointer} of {status}");
    }
    assert!(is_time(&status["now"]) && is_time(&status["started_at"]), "{status}");
    let figure = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap();
    assert!(figure("/memory/resident_bytes") > 1 << 20, "{status}");
    assert!((1..60_000).contains(&figure("/uptime_ms")), "{status}");
    assert_eq!(figure("/memory/history_bytes_max"), 256 << 20);
    drop(stream);
    metric_is(&hub, "visnyk_streams", 0).await;
    let status = ask(&hub, get("/v1/status")).await.json();
    assert_eq!(status["since_start"]["connections_closed"]["peer_closed"], 1, "{status}");
}

#[tokio::test]
async fn samples_show_what_happened_lately() {
    let hub = hub(&[("shards", "1")]).await;
    let mut stream = Wire::to(&hub).await;
    stream.send(get("/v1/channels/a/events")).await;
    stream.stream_head().await;
    for _ in 0..3 {
        published(&hub, "a", "x").await;
    }
    let refused = ask(&hub, request("POST", "/v1/channels/a/events", &[], &"x".repeat(2 << 20)));
    assert_eq!(refused.await.status, 413);
    let patience = Instant::now() + Duration::from_secs(60);
    let samples = loop {
        let answer = ask(&hub, get("/v1/samples")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let json = answer.json();
        assert_eq!((&json["interval_ms"], &json["samples_max"]), (&json!(5000), &json!(180)));
        let samples = json["samples"].as_array().expect("samples").clone();
        if samples.len() >= 2 {
            break samples;
        }
        assert!(Instant::now() < patience, "{json}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let first = &samples[0];
    assert!(is_time(&first["at"]), "{first}");
    let of_events = |name: &str| {
        let rate = first[name].as_f64().expect("a rate");
        (rate * first["interval_ms"].as_f64().expect("a time") / 1_000.0).round()
    };
    assert_eq!((of_events("events_per_s"), of_events("deliveries_per_s")), (3.0, 3.0), "{first}");
    assert_eq!((&first["streams"], &first["gaps"]), (&json!(1), &json!({})), "{first}");
    assert_eq!(first["rejections"], json!({"requests": {"body_too_large": 1}}), "{first}");
    assert!(first["fan_out_ms"]["p99"].as_f64().expect("a time") > 0.0, "{first}");
    assert!(first["resident_bytes"].as_u64().expect("bytes") > 1 << 20, "{first}");
    let last = ask(&hub, get("/v1/samples?last=1")).await.json();
    assert_eq!(last["samples"].as_array().map(Vec::len), Some(1), "{last}");
    for bad in ["0", "181", "x", ""] {
        let answer = ask(&hub, get(&format!("/v1/samples?last={bad}"))).await;
        assert_eq!((answer.status, &answer.problem()["field"]), (400, &json!("last")), "{bad}");
    }
}
