//! Sockets of one address, and new ones in a second.

use visnyk_loadtest::Hub;

use super::{
    counted,
    wire::{PATIENCE, Wire, get, hub, metric, metric_is, request},
};

const TOO_MANY: &str = r#"visnyk_sockets_refused_total{reason="address_requests_max"}"#;
const TOO_OFTEN: &str = r#"visnyk_sockets_refused_total{reason="address_rate"}"#;
const ALL_TOO_OFTEN: &str = r#"visnyk_sockets_refused_total{reason="rate"}"#;

/// A connection that is kept after an answer.
async fn kept(hub: &Hub, source: &str) -> Wire {
    let mut wire = Wire::from_source(hub, source).await;
    wire.send(get("/healthz")).await;
    assert_eq!(wire.answer().await.status, 200);
    wire
}

/// The same where a permit was just released: it is free a moment after the client can know.
async fn kept_soon(hub: &Hub, source: &str) -> Wire {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut wire = Wire::from_source(hub, source).await;
        wire.send(get("/healthz")).await;
        let status = wire.answer().await.status;
        if status == 200 {
            return wire;
        }
        assert_eq!(status, 429);
        assert!(tokio::time::Instant::now() < deadline, "the permit does not become free");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_address_has_so_many_sockets_and_streams_are_not_among_them() {
    let hub = hub(&counted(&[("limits.per_address.requests_max", "2")])).await;
    let mut first = kept(&hub, "127.0.0.2").await;
    let second = kept(&hub, "127.0.0.2").await;
    let mut third = Wire::from_source(&hub, "127.0.0.2").await;
    third.send(get("/healthz")).await;
    let refused = third.answer().await;
    assert_eq!((refused.status, refused.has("retry-after")), (429, true), "{refused:?}");
    assert!(refused.problem()["detail"].as_str().unwrap().contains("this address"));
    third.closed().await;
    let mut stream = Wire::from_source(&hub, "127.0.0.2").await;
    let fields = [("Accept", "text/event-stream")];
    stream.send(request("GET", "/v1/events?channel=a", &fields, "")).await;
    let refused = stream.answer().await;
    assert_eq!(refused.status, 200);
    assert!(refused.text().contains("retry: "), "{}", refused.text());
    let mut publisher = Wire::from_source(&hub, "127.0.0.2").await;
    let fields = [("Accept", "application/json, text/event-stream")];
    publisher.send(request("POST", "/v1/channels/a/events", &fields, "1")).await;
    assert_eq!(publisher.answer().await.status, 429, "200 would say that it is published");
    assert_eq!(metric(&hub, TOO_MANY).await, 3, "127.0.0.1 asks, and is another");

    // A socket that becomes a stream makes room.
    first.send(get("/v1/events?channel=a")).await;
    first.stream_head().await;
    let fourth = kept_soon(&hub, "127.0.0.2").await;
    drop((second, fourth));
    metric_is(&hub, "visnyk_http_connections", 1).await;
    drop((kept_soon(&hub, "127.0.0.2").await, kept_soon(&hub, "127.0.0.2").await));
}

#[tokio::test]
async fn sockets_beyond_the_limit_of_rejections_are_closed_and_delay_no_other() {
    let hub = hub(&counted(&[("limits.per_address.requests_max", "1")])).await;
    let _only = kept(&hub, "127.0.0.2").await;
    // They send nothing, so each one that is answered holds its rejection permit for a second.
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Wire::from_source(&hub, "127.0.0.2").await);
    }
    metric_is(&hub, TOO_MANY, 200).await;
    let begun = tokio::time::Instant::now();
    for number in 1..=20 {
        kept(&hub, &format!("127.0.3.{number}")).await;
    }
    // One that waits for a permit would wait for several of the silent: a second each.
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    for mut wire in silent {
        wire.rest().await;
    }
}

#[tokio::test]
async fn an_address_connects_so_often_and_others_are_not_held_up() {
    let settings = [("limits.per_address.new_per_s", "1"), ("limits.per_address.new_burst", "3")];
    let hub = hub(&counted(&settings)).await;
    let mut served = 0;
    let mut refused = 0;
    for _ in 0..12 {
        let mut wire = Wire::from_source(&hub, "127.0.0.2").await;
        wire.send(get("/healthz")).await;
        let answer = wire.answer().await;
        match answer.status {
            200 => served += 1,
            429 => {
                assert_eq!(answer.field("retry-after"), "1");
                refused += 1;
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert!(served >= 3 && refused >= 1, "{served} {refused}");
    drop(kept(&hub, "127.0.0.3").await);
    // The one more that asks comes from another address, which has its own burst.
    assert_eq!(metric(&hub, TOO_OFTEN).await, refused);
}

#[tokio::test]
async fn all_together_connect_so_often() {
    let settings = [("limits.connections.new_per_s", "1"), ("limits.connections.new_burst", "3")];
    // Without counting this machine's addresses: all are all.
    let hub = hub(&settings).await;
    let keeping = &mut kept(&hub, "127.0.0.2").await;
    let mut refused = 0;
    for number in 3..12 {
        let mut wire = Wire::from_source(&hub, &format!("127.0.0.{number}")).await;
        wire.send(get("/healthz")).await;
        let answer = wire.answer().await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        refused += u64::from(answer.status == 503);
    }
    assert!(refused >= 1);
    keeping.send(get("/metrics")).await;
    let metrics = keeping.answer().await;
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(ALL_TOO_OFTEN));
    assert_eq!(line.unwrap().trim(), refused.to_string());
}

#[tokio::test]
async fn a_polls_socket_counts_again_when_it_comes_back() {
    let hub = hub(&counted(&[("limits.per_address.requests_max", "1")])).await;
    let mut poll = kept(&hub, "127.0.0.2").await;
    poll.send(get("/v1/poll?channel=a&timeout=1")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    // While it waits it counts as a connection, and leaves its permit to another socket.
    let other = kept(&hub, "127.0.0.2").await;
    assert_eq!(poll.answer().await.status, 204);
    drop(other);
    metric_is(&hub, "visnyk_http_connections", 2).await;
    let mut third = Wire::from_source(&hub, "127.0.0.2").await;
    third.send(get("/healthz")).await;
    assert_eq!(third.answer().await.status, 429, "it is not refused itself, but it counts");
    poll.send(get("/healthz")).await;
    assert_eq!(poll.answer().await.status, 200);
}
