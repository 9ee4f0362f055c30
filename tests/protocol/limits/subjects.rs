//! Connections and events of one subject, wherever it comes from.

use std::process::Command;

use super::wire::{PATIENCE, Wire, hub, metric, request, taken_on};

pub(crate) const SECRET: &str = "a-secret-of-these-tests-and-of-no-hub";

/// A token for everything, as the command line mints it.
pub(crate) fn token(subject: Option<&str>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visnyk"));
    command.env("VISNYK_JWT_SECRET", SECRET).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.args(["token", "--publish", "**", "--subscribe", "**"]);
    if let Some(subject) = subject {
        command.args(["--subject", subject]);
    }
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    format!("Bearer {}", String::from_utf8(output.stdout).expect("text").trim())
}

#[tokio::test]
async fn a_subject_has_so_many_connections_wherever_from() {
    let hub = hub(&[("jwt_secret", SECRET), ("limits.per_subject.connections_max", "2")]).await;
    let stream = async |source: &str, token: &str| {
        let mut wire = Wire::from_source(&hub, source).await;
        let fields = [("Authorization", token), ("Accept", "text/event-stream")];
        wire.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
        let (_, block) = wire.stream_head().await;
        (wire, block.starts_with(": refused: this subject"))
    };
    let (ann, ben, no_subject) = (token(Some("ann")), token(Some("ben")), token(None));
    let (first, refused) = stream("127.0.0.2", &ann).await;
    assert!(!refused);
    let (_second, refused) = stream("127.0.0.3", &token(Some("ann"))).await;
    assert!(!refused, "at the bound");
    assert!(stream("127.0.0.4", &ann).await.1, "above");
    let name = r#"visnyk_subscriptions_refused_total{reason="too_many_of_subject"}"#;
    assert_eq!(metric(&hub, name).await, 1);
    assert!(!stream("127.0.0.2", &ben).await.1);
    for _ in 0..3 {
        assert!(
            !stream("127.0.0.2", &no_subject).await.1,
            "a request without a subject is not counted by subject"
        );
    }
    taken_on(&hub, 6).await;
    drop(first);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while stream("127.0.0.2", &ann).await.1 {
        assert!(tokio::time::Instant::now() < deadline, "what ended counts still");
    }
}

#[tokio::test]
async fn a_subject_publishes_so_many_events_whatever_its_addresses() {
    let settings = [
        ("jwt_secret", SECRET),
        ("limits.per_address.loopback", "true"),
        ("limits.per_address.events_per_s", "1"),
        ("limits.per_address.events_burst", "1"),
        ("limits.per_subject.events_per_s", "1"),
        ("limits.per_subject.events_burst", "3"),
    ];
    let hub = hub(&settings).await;
    let publish = async |source: &str, token: &str, events: usize| {
        let fields = [("Authorization", token), ("Content-Type", "application/x-ndjson")];
        let lines = "{\"data\":\"x\"}\n".repeat(events);
        let mut wire = Wire::from_source(&hub, source).await;
        wire.send(request("POST", "/v1/events?channel=a", &fields, &lines)).await;
        wire.answer().await
    };
    let (ann, ben, no_subject) = (token(Some("ann")), token(Some("ben")), token(None));
    assert_eq!(publish("127.0.0.2", &ann, 4).await.refuses(413, "body")["events_max"], 3);
    assert_eq!(publish("127.0.0.2", &ann, 3).await.status, 201, "the address does not count");
    let mut from = (3..250).map(|number| format!("127.0.0.{number}"));
    let refused = loop {
        let answer = publish(&from.next().expect("it is refused soon"), &ann, 2).await;
        if answer.status != 201 {
            break answer;
        }
    };
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(metric(&hub, r#"visnyk_publishes_refused_total{reason="subject_rate"}"#).await > 0);
    assert_eq!(publish("127.0.0.2", &ben, 3).await.status, 201);
    // Without a subject, the address counts.
    assert_eq!(publish("127.0.0.2", &no_subject, 2).await.refuses(413, "body")["events_max"], 1);
}
