//! DELETE: a channel says goodbye, and is remembered as closed for a while.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use visnyk_loadtest::Hub;

use super::{
    data, field, retained,
    wire::{
        Answer, PATIENCE, Wire, ask, get, hub, metric_is, nothing_is_left, post, publish,
        published, request,
    },
};

async fn close(hub: &Hub, channel: &str) -> Answer {
    ask(hub, request("DELETE", &format!("/v1/channels/{channel}"), &[], "")).await
}

/// Waits until a closed channel takes events again, and publishes one.
async fn reopened(hub: &Hub, channel: &str) {
    let deadline = Instant::now() + PATIENCE;
    while ask(hub, publish(channel, "new")).await.status == 410 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn subscribers_get_a_closed_event_and_a_stream_ends_with_its_last_named_channel() {
    let hub = hub(&[]).await;
    let mut wires = Vec::new();
    for query in ["channel=a", "channel=a&channel=b", "channel=a&channel=**", "channel=a&type=t"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/events?{query}"))).await;
        wire.stream_head().await;
        wires.push(wire);
    }
    published(&hub, "b", "b is there").await;
    let answer = close(&hub, "a").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    let [mut only_a, mut both, mut pattern, mut typed] =
        <[Wire; 4]>::try_from(wires).map_err(|_| ()).unwrap();

    let block = only_a.block().await;
    let id = field(&block, "id").to_owned();
    let closed = |id: &str, channel| format!("event: visnyk.closed\ndata: {channel}\nid: {id}\n\n");
    assert_eq!(block, closed(&id, "a"));
    only_a.closed().await;
    assert!(only_a.has_ended(), "it is complete, and its client is to stop");
    // The hub's own events pass every filter.
    assert_eq!(typed.block().await, closed(&id, "a"));
    typed.closed().await;

    for wire in [&mut both, &mut pattern] {
        assert!(wire.block().await.starts_with("data: b is there\n"));
        assert_eq!(wire.block().await, closed(&id, "a"));
    }
    close(&hub, "b").await;
    let block = both.block().await;
    assert_eq!(block, closed(field(&block, "id"), "b"));
    both.closed().await;
    assert_eq!(pattern.block().await, block);
    published(&hub, "c", "still there").await;
    assert!(pattern.block().await.starts_with("data: still there\n"));
    drop(pattern);
    nothing_is_left(&hub).await;
}

#[tokio::test]
async fn later_subscribers_are_sent_away_for_good() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    published(&hub, "b", "x").await;
    close(&hub, "a").await;
    let accept = [("Accept", "text/event-stream")];
    for target in ["/v1/channels/a/events", "/v1/events?channel=a"] {
        for request in [get(target), request("GET", target, &accept, "")] {
            let answer = ask(&hub, request).await;
            assert_eq!(answer.status, 204, "an EventSource stops: {answer:?}");
        }
    }
    for target in ["/v1/channels/a/poll", "/v1/poll?channel=a"] {
        let answer = ask(&hub, get(target)).await;
        assert_eq!(answer.status, 410);
        answer.problem();
    }
    for target in ["/v1/channels/a/events", "/v1/events?channel=a"] {
        let answer = ask(&hub, post(target, "x")).await;
        assert_eq!(answer.status, 410);
        assert_eq!(answer.problem()["channel"], "a");
    }
    assert_eq!(close(&hub, "a").await.status, 410);
    // One open channel, or a pattern, is enough to be let in.
    for query in ["channel=a&channel=b", "channel=a&channel=a/*", "channel=**"] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/events?{query}"))).await;
        wire.stream_head().await;
        let answer = ask(&hub, get(&format!("/v1/poll?{query}&timeout=0"))).await;
        assert_eq!(answer.status, 204, "{query}");
    }
    let info = ask(&hub, get("/v1/channels/a")).await.json();
    assert_eq!((&info["closed"], &info["events_retained"]), (&true.into(), &2.into()));
}

#[tokio::test]
async fn a_subscriber_from_before_still_gets_the_rest() {
    let hub = hub(&[]).await;
    let first = published(&hub, "a", "1").await;
    published(&hub, "a", "2").await;
    close(&hub, "a").await;
    for (position, expected) in [(&*first, &["2"][..]), ("earliest", &["1", "2"])] {
        let mut wire = Wire::to(&hub).await;
        let fields = [("Last-Event-ID", position)];
        wire.send(request("GET", "/v1/channels/a/events", &fields, "")).await;
        wire.stream_head().await;
        for data in expected {
            assert!(wire.block().await.starts_with(&format!("data: {data}\n")));
        }
        let closed = wire.block().await;
        assert!(closed.starts_with("event: visnyk.closed\ndata: a\nid: "), "{closed}");
        wire.closed().await;
        // The reconnect of an EventSource: it has everything now, and stops.
        let fields = [("Last-Event-ID", field(&closed, "id"))];
        let answer = ask(&hub, request("GET", "/v1/channels/a/events", &fields, "")).await;
        assert_eq!(answer.status, 204);

        let fields = [("Last-Event-ID", position)];
        let answer = ask(&hub, request("GET", "/v1/channels/a/poll", &fields, "")).await;
        let mut polled: Vec<&str> = expected.to_vec();
        polled.push("a");
        assert_eq!(data(&answer), polled);
        let events = answer.json()["events"].clone();
        assert_eq!(events[expected.len()]["type"], "visnyk.closed");
        let fields = [("Last-Event-ID", answer.field("last-event-id"))];
        let answer = ask(&hub, request("GET", "/v1/channels/a/poll", &fields, "")).await;
        assert_eq!(answer.status, 410);
    }
}

#[tokio::test]
async fn a_waiting_poll_is_answered_with_the_closing() {
    let hub = hub(&[]).await;
    published(&hub, "a", "x").await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/poll?type=t")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    close(&hub, "a").await;
    let event = wire.answer().await.json()["events"][0].clone();
    assert_eq!((&event["type"], &event["data"]), (&"visnyk.closed".into(), &"a".into()));
    wire.send(get("/v1/channels/a/poll")).await;
    assert_eq!(wire.answer().await.status, 410);
}

#[tokio::test]
async fn a_tombstone_expires_and_the_name_can_be_used_anew() {
    let hub = hub(&[("limits.channels.tombstone_s", "1")]).await;
    let last = published(&hub, "a", "old").await;
    close(&hub, "a").await;
    let began = Instant::now();
    reopened(&hub, "a").await;
    assert!(began.elapsed() < Duration::from_secs(10), "late: {:?}", began.elapsed());
    assert_eq!(retained(&hub, "a").await.pop().unwrap().1, "new");
    let info = ask(&hub, get("/v1/channels/a")).await.json();
    assert_eq!((&info["closed"], &info["events_retained"]), (&false.into(), &1.into()));
    // A client whose position is in the old channel has missed its end, and gets a gap.
    let mut wire = Wire::to(&hub).await;
    wire.send(request("GET", "/v1/channels/a/events", &[("Last-Event-ID", &last)], "")).await;
    wire.stream_head().await;
    let gap = wire.block().await;
    assert!(gap.starts_with("event: visnyk.gap\n") && gap.contains("evicted"), "{gap}");
    assert!(wire.block().await.starts_with("data: new\n"));
}

#[tokio::test]
async fn a_tombstone_expires_under_a_stream_that_names_the_channel_beside_others() {
    let hub = hub(&[("limits.channels.tombstone_s", "1")]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/events?channel=a&channel=b")).await;
    wire.stream_head().await;
    close(&hub, "a").await;
    assert!(wire.block().await.contains("visnyk.closed"));
    // The stream goes on for `b` and holds `a`, which is a channel again after its tombstone.
    reopened(&hub, "a").await;
    assert!(wire.block().await.starts_with("data: new\n"));
    published(&hub, "b", "other").await;
    assert!(wire.block().await.starts_with("data: other\n"));
}

#[tokio::test]
async fn tombstones_are_capped() {
    let hub = hub(&[("limits.channels.tombstones_max", "2")]).await;
    for channel in ["a", "b", "c"] {
        published(&hub, channel, "x").await;
        close(&hub, channel).await;
    }
    reopened(&hub, "a").await;
    for channel in ["b", "c"] {
        assert_eq!(ask(&hub, publish(channel, "new")).await.status, 410);
    }
}

#[tokio::test]
async fn what_is_not_there_cannot_be_closed() {
    let hub = hub(&[]).await;
    let answer = close(&hub, "none").await;
    assert_eq!((answer.status, &answer.problem()["channel"]), (404, &"none".into()));
    assert_eq!(close(&hub, "none").await.status, 404);
    // A channel that has only subscribers is one.
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/some/events")).await;
    wire.stream_head().await;
    assert_eq!(close(&hub, "some").await.status, 204);
    assert!(wire.block().await.contains("visnyk.closed"));
    wire.closed().await;
}
