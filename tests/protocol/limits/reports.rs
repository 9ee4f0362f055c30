//! What clients make happen very often is all counted, and said in the log once a second at most.

use std::time::Instant;

use visnyk_loadtest::Hub;

use super::{
    counted, refused_requests,
    subjects::SECRET,
    wire::{PATIENCE, Wire, ask, get, hub, metric, publish, request},
};

/// Checks that the log has no more lines about something than there were seconds since it began,
/// and the first.
#[track_caller]
pub(crate) fn logged_seldom(hub: &Hub, about: &str, begun: Instant) {
    let (log, took) = (hub.stderr(), begun.elapsed());
    let lines = log.matches(about).count() as u64;
    assert!((1..=took.as_secs() + 1).contains(&lines), "{lines} in {took:?}: {log}");
}

const TIMES: u64 = 50;

#[tokio::test]
async fn publishes_over_a_limit() {
    let settings =
        [("limits.per_address.events_per_s", "1"), ("limits.per_address.events_burst", "1")];
    let mut hub = hub(&counted(&settings)).await;
    let begun = Instant::now();
    let mut refused = 0;
    for _ in 0..TIMES {
        let mut wire = Wire::from_source(&hub, "127.0.0.2").await;
        wire.send(publish("a", "x")).await;
        refused += u64::from(wire.answer().await.status == 429);
    }
    assert!(refused > 0);
    let name = r#"visnyk_publishes_refused_total{reason="address_rate"}"#;
    assert_eq!(metric(&hub, name).await, refused);
    let line = hub.wait_for_line("over a limit", PATIENCE).await.unwrap();
    assert!(line.contains("127.0.0.2") && line.contains("address_rate"), "{line}");
    logged_seldom(&hub, "over a limit", begun);
}

#[tokio::test]
async fn connections_turned_away() {
    let mut hub = hub(&counted(&[("limits.per_address.requests_max", "1")])).await;
    let mut only = Wire::from_source(&hub, "127.0.0.2").await;
    only.send(get("/healthz")).await;
    assert_eq!(only.answer().await.status, 200);
    let begun = Instant::now();
    for _ in 0..TIMES {
        let mut wire = Wire::from_source(&hub, "127.0.0.2").await;
        wire.send(get("/healthz")).await;
        assert_eq!(wire.answer().await.status, 429);
    }
    let name = r#"visnyk_sockets_refused_total{reason="address_requests_max"}"#;
    assert_eq!(metric(&hub, name).await, TIMES);
    let line = hub.wait_for_line("rejecting connections over a limit", PATIENCE).await.unwrap();
    assert!(line.contains("127.0.0.2") && line.contains("address_requests_max"), "{line}");
    logged_seldom(&hub, "rejecting connections over a limit", begun);
}

#[tokio::test]
async fn requests_past_a_bound() {
    let mut hub = hub(&[("limits.publish.body_bytes_max", "10")]).await;
    let begun = Instant::now();
    for _ in 0..TIMES {
        ask(&hub, publish("a", "0123456789x")).await.refuses(413, "body");
    }
    assert_eq!(metric(&hub, &refused_requests("body_too_large")).await, TIMES);
    let line = hub.wait_for_line("refusing requests", PATIENCE).await.unwrap();
    assert!(line.contains("127.0.0.1") && line.contains("body_too_large"), "{line}");
    logged_seldom(&hub, "refusing requests", begun);
}

#[tokio::test]
async fn tokens_that_are_refused() {
    let mut hub = hub(&[("jwt_secret", SECRET)]).await;
    let begun = Instant::now();
    for _ in 0..TIMES {
        let fields = [("Authorization", "Bearer what-is-none")];
        let answer = ask(&hub, request("GET", "/v1/poll?channel=a&timeout=0", &fields, "")).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let reason = "malformed";
    let name = format!("visnyk_tokens_refused_total{{reason=\"{reason}\"}}");
    assert_eq!(metric(&hub, &name).await, TIMES);
    let line = hub.wait_for_line("a token was refused", PATIENCE).await.unwrap();
    assert!(line.contains(reason) && !line.contains("what-is-none"), "{line}");
    logged_seldom(&hub, "a token was refused", begun);
}
