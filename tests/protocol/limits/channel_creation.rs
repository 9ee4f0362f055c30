//! Channels that requests create by naming them.

use visnyk_loadtest::Hub;

use super::{
    counted,
    subjects::{SECRET, token},
    wire::{Wire, ask, get, hub, metric, metric_is, publish, request},
};

/// So slow a rate that nothing comes back while a test runs.
const SLOW: [(&str, &str); 2] =
    [("limits.per_address.channels_per_s", "1"), ("limits.per_address.channels_burst", "5")];

fn refused(what: &str) -> String {
    format!("visnyk_{what}_refused_total{{reason=\"too_many_new_channels\"}}")
}

/// Asks for channels in one way or another until it is refused. At a channel a second, a slow
/// machine lets some more pass.
async fn until_refused(hub: &Hub, source: &str, request: impl Fn(usize) -> String) -> (usize, u16) {
    for passed in 0..500 {
        let mut wire = Wire::from_source(hub, source).await;
        wire.send(request(passed)).await;
        let status = wire.head().await.status;
        if !matches!(status, 200 | 201 | 204) {
            return (passed, status);
        }
    }
    panic!("it is never refused");
}

#[tokio::test]
async fn an_address_names_so_many_new_channels_and_others_are_not_held_up() {
    let hub = hub(&counted(&SLOW)).await;
    let (passed, status) =
        until_refused(&hub, "127.0.0.2", |n| publish(&format!("p{n}"), "x")).await;
    assert_eq!(status, 429);
    assert!(passed >= 5, "{passed} at once");
    assert!(metric(&hub, &refused("publishes")).await >= 1);
    let poll = |n| get(&format!("/v1/channels/l{n}/poll?timeout=0"));
    assert_eq!(until_refused(&hub, "127.0.0.2", poll).await.1, 429);
    assert!(metric(&hub, &refused("subscriptions")).await >= 1);
    let mut wire = Wire::from_source(&hub, "127.0.0.2").await;
    let names: String = (0..100).map(|n| format!("channel=s{n}&")).collect();
    let fields = [("Accept", "text/event-stream")];
    wire.send(request("GET", &format!("/v1/events?{names}"), &fields, "")).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 200, "it is to come back: {answer:?}");
    assert!(answer.text().starts_with(": refused: too many new channels"), "{}", answer.text());
    // What is there, anyone may name.
    let mut wire = Wire::from_source(&hub, "127.0.0.2").await;
    wire.send(publish("p0", "x")).await;
    assert_eq!(wire.answer().await.status, 201);
    let (passed, _) = until_refused(&hub, "127.0.0.3", |n| publish(&format!("q{n}"), "x")).await;
    assert!(passed >= 5, "another's are another's");
}

#[tokio::test]
async fn a_subject_names_so_many_new_channels_wherever_from() {
    let settings = [
        ("jwt_secret", SECRET),
        ("limits.per_address.loopback", "true"),
        ("limits.per_address.channels_per_s", "1"),
        ("limits.per_address.channels_burst", "1"),
        ("limits.per_subject.channels_per_s", "1"),
        ("limits.per_subject.channels_burst", "3"),
    ];
    let hub = hub(&settings).await;
    let (ann, ben) = (token(Some("ann")), token(Some("ben")));
    let named_by = async |token: &str, prefix: &str| {
        for passed in 0..200 {
            let mut wire = Wire::from_source(&hub, &format!("127.0.1.{}", passed + 1)).await;
            let fields = [("Authorization", token)];
            let path = format!("/v1/channels/{prefix}{passed}/poll?timeout=0");
            wire.send(request("GET", &path, &fields, "")).await;
            let answer = wire.answer().await;
            if answer.status != 204 {
                assert_eq!(answer.status, 429, "{answer:?}");
                return passed;
            }
        }
        panic!("it is never refused");
    };
    assert!(named_by(&ann, "a").await >= 3);
    assert!(named_by(&ben, "b").await >= 3, "another's are another's");
    assert_eq!(metric(&hub, &refused("subscriptions")).await, 2);
}

/// What an actor of each took, and more, is not among them.
const BYTES_MAX: u64 = 3_000;
const STREAMS: usize = 100;
const CHANNELS: u64 = 100 * STREAMS as u64;

/// Streams of a hundred new channels each, and by how much the hub has grown.
async fn streams_of_new_channels(hub: &Hub) -> (Vec<Wire>, u64) {
    let mut streams = Vec::new();
    let mut before = 0;
    for stream in 0..STREAMS {
        let names: String = (0..100).map(|n| format!("channel=s{stream}/{n}&")).collect();
        let mut wire = Wire::to(hub).await;
        wire.send(get(&format!("/v1/events?{names}"))).await;
        wire.stream_head().await;
        streams.push(wire);
        if stream == 0 {
            before = hub.resident_bytes().unwrap();
        }
    }
    metric_is(hub, "visnyk_channels", CHANNELS).await;
    (streams, hub.resident_bytes().unwrap().saturating_sub(before))
}

#[tokio::test]
async fn channels_without_events_cost_little() {
    let hub = hub(&[]).await;
    let (mut streams, grown) = streams_of_new_channels(&hub).await;
    assert!(grown < CHANNELS * BYTES_MAX, "{} bytes a channel", grown / CHANNELS);
    // They are ordinary channels: an event reaches the subscribers that named one.
    assert_eq!(ask(&hub, publish("s7%2F42", "there")).await.status, 201);
    assert!(streams[7].block().await.contains("data: there"));
}

#[tokio::test]
async fn channels_without_events_stay_while_they_have_subscribers_and_are_evicted_then() {
    let hub = hub(&[("limits.channels.idle_s", "1")]).await;
    let (streams, _) = streams_of_new_channels(&hub).await;
    assert_eq!(ask(&hub, publish("s7%2F42", "there")).await.status, 201);
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(3) {
        assert_eq!(metric(&hub, "visnyk_channels").await, CHANNELS);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    drop(streams);
    // The one with an event keeps it.
    metric_is(&hub, "visnyk_channels", 1).await;
}
