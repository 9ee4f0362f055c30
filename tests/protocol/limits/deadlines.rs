//! Nothing but deadlines waits until they are looked at: `limits.connections.deadline_check_ms` is
//! a minute here, and no test waits that long.

use tokio::task::JoinSet;

use crate::wire::{PATIENCE, Wire, get, hub, metric_is, publish, published, request, taken_on};

const RARELY: (&str, &str) = ("limits.connections.deadline_check_ms", "60000");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_pipelining_publishers_published_is_delivered_without_a_look_at_the_deadlines() {
    const CHANNELS: usize = 200;
    const SUBSCRIBERS: usize = 10;
    const EVENTS: usize = 4_000;
    const PUBLISHERS: usize = 20;
    let hub = hub(&[RARELY]).await;
    let mut streams = Vec::new();
    for number in 0..CHANNELS * SUBSCRIBERS {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/channels/c{}/events", number % CHANNELS))).await;
        wire.stream_head().await;
        streams.push(wire);
    }
    let event = |number: usize| publish(&format!("c{}", number % CHANNELS), &number.to_string());
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let requests: String = (publisher..EVENTS).step_by(PUBLISHERS).map(event).collect();
        let mut wire = Wire::to(&hub).await;
        publishers.spawn(async move {
            wire.send(requests).await;
            for _ in (publisher..EVENTS).step_by(PUBLISHERS) {
                assert_eq!(wire.answer().await.status, 201);
            }
        });
    }
    publishers.join_all().await;
    for (number, mut stream) in streams.into_iter().enumerate() {
        let due = (number % CHANNELS..EVENTS).step_by(CHANNELS);
        // Those of one channel came by one connection, in this order.
        for number in due {
            let block = stream.block().await;
            assert!(block.starts_with(&format!("data: {number}\n")), "{block}");
        }
    }
}

#[tokio::test]
async fn polls_histories_and_hang_ups_need_no_look_at_the_deadlines() {
    let hub = hub(&[RARELY]).await;
    let history: usize = 900;
    for number in 0..history {
        published(&hub, "a", &number.to_string()).await;
    }
    let earliest = [("Last-Event-ID", "earliest")];
    for target in
        ["/v1/channels/a/events", "/v1/events?channel=*", "/v1/events?channel=a&type=none"]
    {
        let mut stream = Wire::to(&hub).await;
        stream.send(request("GET", target, &earliest, "")).await;
        stream.stream_head().await;
        if !target.ends_with("none") {
            stream.through(&format!("data: {}\n", history - 1)).await;
        }
    }
    metric_is(&hub, "visnyk_streams", 0).await;

    let mut poll = Wire::to(&hub).await;
    poll.send(get("/v1/poll?channel=**&timeout=60")).await;
    taken_on(&hub, 4).await;
    published(&hub, "b", "waited for").await;
    let answer = poll.answer().await;
    assert_eq!(answer.json()["events"][0]["data"], "waited for");
    // The socket is back, and serves the next request.
    poll.send(get("/healthz")).await;
    assert_eq!(poll.answer().await.status, 200);
}

#[tokio::test]
async fn a_drain_is_over_when_the_last_client_has_left() {
    let mut hub = hub(&[RARELY, ("drain_window_s", "3600")]).await;
    let mut stream = Wire::to(&hub).await;
    stream.send(get("/v1/channels/a/events")).await;
    stream.stream_head().await;
    hub.terminate().expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");
    drop(stream);
    let status = hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
}
