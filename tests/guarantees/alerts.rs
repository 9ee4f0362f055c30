//! What the alerts of dist/prometheus warn of, brought about: the metrics that they ask for move.
//! docs/metrics.md says which alert is tried where.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};
use visnyk_loadtest::{Exchange, SseClient, SseRequest};

use crate::support::{PATIENCE, TestHub, data_of};

#[tokio::test]
async fn a_hub_that_is_gone_does_not_answer() {
    let mut hub = TestHub::start(&[]).await;
    assert_eq!(hub.get("/metrics").await.status(), 200);
    hub.kill().await.expect("it runs");
    let mut exchange = Exchange::new(hub.address());
    assert!(exchange.request("GET", "/metrics", &[], b"", PATIENCE).await.is_err());
}

#[tokio::test]
async fn a_shard_that_panics_is_counted_as_restarted() {
    let hub = TestHub::start(&[("FAULTS", "true"), ("SHARDS", "1")]).await;
    let restarts = r#"visnyk_restarts_total{reason="shard"}"#;
    assert_eq!(hub.metric(restarts).await, 0.0);
    hub.plant("shard?shard=0").await;
    hub.wait_for_metric(restarts, |count| count == 1.0).await;
}

#[tokio::test]
async fn limits_that_are_reached_are_counted() {
    let settings =
        [("limits.connections.connections_max", "1"), ("limits.channels.channels_max", "1")];
    let hub = TestHub::start(&settings).await;
    let _stream = hub.stream("channel=a", "now").await;
    let refused = SseRequest::new("/v1/events?channel=a");
    let refused = SseClient::connect(hub.address(), &refused).await.expect("an answer");
    assert_eq!(refused.head().status, 200, "with a reconnection time");
    let answer = hub.request("POST", "/v1/channels/b/events", &[], "x").await;
    assert_eq!(answer.status(), 503, "{}", answer.body);
    for name in [
        r#"visnyk_subscriptions_refused_total{reason="too_many_connections"}"#,
        r#"visnyk_publishes_refused_total{reason="too_many_channels"}"#,
        r#"visnyk_http_responses_total{route="publish",status="5xx"}"#,
    ] {
        assert_eq!(hub.metric(name).await, 1.0, "{name}");
    }
    let streams = r#"visnyk_http_responses_total{route="stream",status="2xx"}"#;
    assert_eq!(hub.metric(streams).await, 2.0);
}

#[tokio::test]
async fn publishes_and_rounds_are_timed() {
    let hub = TestHub::start(&[("SHARDS", "1")]).await;
    let mut streams = [hub.stream("channel=a", "now").await, hub.stream("channel=a", "now").await];
    for (published, data) in ["1", "2", "3"].into_iter().enumerate() {
        hub.publish("a", data).await;
        for stream in &mut streams {
            data_of(stream, 1).await;
        }
        let expected = published as f64 + 1.0;
        for name in ["publish", "append"] {
            let name = format!("visnyk_{name}_seconds");
            assert_eq!(hub.metric(&format!("{name}_count")).await, expected, "{name}");
            let sum = hub.metric(&format!("{name}_sum")).await;
            assert!(sum > 0.0 && sum < PATIENCE.as_secs_f64(), "{name}: {sum}");
        }
        // Once a round, which is over a moment after its sends.
        let rounds = "visnyk_fan_out_seconds_count";
        hub.wait_for_metric(rounds, |count| count == expected).await;
    }
    let in_time = r#"visnyk_fan_out_seconds_bucket{le="30.0"}"#;
    assert_eq!(hub.metric(in_time).await, 3.0);
}

#[tokio::test]
async fn a_reader_that_stops_is_counted_with_its_lag() {
    let settings = [
        ("limits.connections.send_buffer_bytes", "1"),
        ("limits.connections.lag_events_max", "50"),
    ];
    let hub = TestHub::start(&settings).await;
    let request = SseRequest::new("/v1/events?channel=a").receive_buffer_bytes(1);
    let _stopped = hub.open(&request).await;
    let slow = r#"visnyk_connections_closed_total{reason="slow_consumer"}"#;
    let closed = async {
        while hub.metric(slow).await == 0.0 {
            hub.publish("a", &"x".repeat(1_000)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it is closed");
    assert_eq!(hub.metric("visnyk_lag_at_close_events_count").await, 1.0);
    let lag = hub.metric("visnyk_lag_at_close_events_sum").await;
    assert!(lag > 50.0 && lag < 60.0, "{lag}");
    assert_eq!(hub.metric(r#"visnyk_lag_at_close_events_bucket{le="10.0"}"#).await, 0.0);
}

#[tokio::test]
async fn what_history_no_longer_holds_is_counted() {
    let hub = TestHub::start(&[("limits.history.events_max", "1")]).await;
    let first = hub.publish("a", "1").await;
    for data in ["2", "3"] {
        hub.publish("a", data).await;
    }
    let gaps = r#"visnyk_gaps_total{reason="evicted"}"#;
    assert_eq!(hub.metric(gaps).await, 0.0);
    let _stream = hub.stream("channel=a", &first).await;
    assert_eq!(hub.metric(gaps).await, 1.0);
}

#[tokio::test]
async fn open_files_and_their_limit_are_those_of_the_process() {
    const STREAMS: usize = 50;
    let hub = TestHub::start(&[]).await;
    let before = hub.metric("process_open_fds").await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(hub.stream("channel=a", "now").await);
    }
    let files = hub.metric("process_open_fds").await;
    let own = std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).expect("it runs").count() as f64;
    assert!(files >= before + STREAMS as f64 && (files - own).abs() <= 3.0, "{files} and {own}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.pid())).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let max: f64 = line.split_ascii_whitespace().nth(3).expect("a number").parse().expect("one");
    assert_eq!(hub.metric("process_max_fds").await, max);
    let resident = hub.resident_bytes().expect("it runs") as f64;
    let shown = hub.metric("process_resident_memory_bytes").await;
    assert!(shown > resident / 2.0 && shown < resident * 2.0, "{shown} and {resident}");
    assert!(hub.metric("process_cpu_seconds_total").await > 0.0);
}

#[tokio::test]
async fn clients_and_pages_that_may_not_ask_are_counted() {
    const SECRET: &str = "a-secret-of-these-tests-and-of-no-hub";
    let settings = [("jwt_secret", SECRET), ("auth.metrics", "open")];
    let hub = TestHub::start(&settings).await;
    let minted = Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .args(["token", "--subscribe", "a"])
        .env("VISNYK_JWT_SECRET", SECRET)
        .stderr(Stdio::inherit())
        .output();
    let minted = timeout(Duration::from_secs(30), minted).await.expect("in time").expect("it runs");
    let token = String::from_utf8(minted.stdout).expect("text");
    let (good, cut) = (format!("Bearer {}", token.trim()), "Bearer a.b.c");
    let local = hub.address().to_string();
    for (fields, status, counted) in [
        (vec![], 401, r#"auth_refused_total{reason="no_token"}"#),
        (
            vec![("Authorization", "Bearer")],
            400,
            r#"auth_refused_total{reason="malformed_credentials"}"#,
        ),
        (vec![("Authorization", cut)], 401, r#"auth_refused_total{reason="invalid_token"}"#),
        (vec![("Authorization", &*good)], 403, r#"auth_refused_total{reason="permissions"}"#),
        (vec![("Origin", "http://evil.example")], 403, r#"pages_refused_total{reason="page"}"#),
        (vec![("Host", "evil.example")], 421, r#"pages_refused_total{reason="host"}"#),
    ] {
        let name = format!("visnyk_{counted}");
        assert_eq!(hub.metric(&name).await, 0.0, "{name} is there from the start");
        let mut request = "POST /v1/channels/a/events HTTP/1.1\r\nContent-Length: 1\r\n".to_owned();
        if fields.iter().all(|(field, _)| *field != "Host") {
            request += &format!("Host: {local}\r\n");
        }
        for (field, value) in fields {
            request += &format!("{field}: {value}\r\n");
        }
        request += "\r\nx";
        let answer = Exchange::new(hub.address()).send(request.as_bytes(), PATIENCE).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), status, "{counted}: {}", answer.body);
        assert_eq!(hub.metric(&name).await, 1.0, "{name}");
    }
    assert_eq!(hub.metric(r#"visnyk_tokens_refused_total{reason="malformed"}"#).await, 1.0);
}

#[tokio::test]
async fn fsyncs_are_timed() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let hub = TestHub::start(&[("data_dir", data_dir.to_str().expect("text"))]).await;
    let before = hub.metric("visnyk_disk_sync_seconds_count").await;
    hub.publish("a", "x").await;
    assert!(hub.metric("visnyk_disk_sync_seconds_count").await > before);
    let append = hub.metric("visnyk_append_seconds_sum").await;
    assert!(append > 0.0 && append <= hub.metric("visnyk_publish_seconds_sum").await);
}
