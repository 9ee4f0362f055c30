//! Very many clients that send very slowly, a byte at a time: they get no further than their time,
//! and others go on meanwhile.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use visnyk_loadtest::Hub;

use super::{
    refused_requests,
    wire::{Wire, get, hub, metric, metric_is, publish},
};

const ATTACKERS: usize = 300;
/// Between two bytes: a client that is never idle for as long as the time it has.
const PAUSE: Duration = Duration::from_millis(250);

/// Two seconds, and what a busy machine makes of them.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(60);

/// Sends the rest of a request a byte at a time until the hub has enough; gives how long it took.
async fn drip(mut wire: Wire, rest: String) -> Duration {
    let begun = Instant::now();
    for byte in rest.as_bytes().iter().cycle() {
        if wire.try_send([*byte]).await.is_err() {
            return begun.elapsed();
        }
        sleep(PAUSE).await;
    }
    unreachable!("it goes round and round")
}

/// Attackers that begin a request with `start` and go on with `rest` for ever, while a stream and a
/// publisher go on.
async fn attack(hub: &Hub, start: String, rest: &str) -> Vec<Duration> {
    let mut stream = Wire::to(hub).await;
    stream.send(get("/v1/events?channel=a")).await;
    stream.stream_head().await;
    let mut attackers = JoinSet::new();
    for number in 0..ATTACKERS {
        let mut wire = Wire::from_source(hub, &format!("127.0.1.{}", number % 250 + 1)).await;
        wire.send(&start).await;
        attackers.spawn(drip(wire, rest.to_owned()));
    }
    let begun = Instant::now();
    let mut number = 0;
    let mut ended = Vec::new();
    while ended.len() < ATTACKERS {
        assert!(begun.elapsed() < GIVEN_UP_WITHIN, "{} are left", ATTACKERS - ended.len());
        // A connection for each: requests have permits beside the attackers'.
        let mut publisher = Wire::to(hub).await;
        publisher.send(publish("a", &format!("event {number}"))).await;
        assert_eq!(publisher.answer().await.status, 201);
        assert!(stream.block().await.starts_with(&format!("data: event {number}\n")));
        number += 1;
        sleep(Duration::from_millis(20)).await;
        while let Some(took) = attackers.try_join_next() {
            ended.push(took.unwrap());
        }
    }
    assert!(number > 20, "{number}");
    ended
}

/// On a busy machine they may take longer; without the bound they would take for ever.
fn check(ended: &[Duration]) {
    let least = ended.iter().min().unwrap();
    assert!(*least > Duration::from_millis(900), "the time they have: {least:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_a_byte_at_a_time_are_given_up_and_others_go_on() {
    let hub = hub(&[("header_read_timeout_s", "2")]).await;
    let start = "GET /v1/channels HTTP/1.1\r\nHost: localhost\r\nX: ".to_owned();
    check(&attack(&hub, start, "x").await);
    metric_is(&hub, &refused_requests("slow_head"), ATTACKERS as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_a_byte_at_a_time_are_given_up_and_others_go_on() {
    let hub = hub(&[("body_read_timeout_s", "2")]).await;
    let start =
        "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    check(&attack(&hub, start.to_owned(), "x").await);
    metric_is(&hub, &refused_requests("slow_body"), ATTACKERS as u64).await;
    // Nothing is left of what came of them.
    assert_eq!(metric(&hub, "visnyk_body_bytes").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_a_byte_at_a_time_are_given_up_and_others_go_on() {
    let hub = hub(&[("body_read_timeout_s", "2")]).await;
    let start = "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\n\
                 Transfer-Encoding: chunked\r\n\r\n";
    check(&attack(&hub, start.to_owned(), "1\r\nx\r\n").await);
    metric_is(&hub, &refused_requests("slow_body"), ATTACKERS as u64).await;
}
