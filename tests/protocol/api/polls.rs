//! Long-polls.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    data, pairs,
    wire::{Answer, Wire, ask, get, hub, metric_is, post, published, request, taken_on},
};

/// What every answer to a poll has.
fn checked(answer: Answer) -> Answer {
    for (name, value) in [
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("expires", "0"),
        ("x-content-type-options", "nosniff"),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.field(name), value, "{answer:?}");
    }
    assert!(answer.field("date").ends_with(" GMT"), "{answer:?}");
    let position = answer.field("last-event-id");
    assert_eq!(answer.field("etag"), format!("W/\"{position}\""));
    match answer.status {
        200 => {
            assert_eq!(answer.field("content-type"), "application/json");
            assert_eq!(answer.json()["position"], position);
        }
        204 => assert!(answer.body.is_empty() && !answer.has("content-type"), "{answer:?}"),
        _ => panic!("{answer:?}"),
    }
    answer
}

#[tokio::test]
async fn a_poll_is_answered_by_the_next_event() {
    let hub = hub(&[]).await;
    published(&hub, "a", "before").await;
    for (count, target) in (1..).zip(["/v1/channels/a/poll", "/v1/poll?channel=a&channel=b/*"]) {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        taken_on(&hub, count).await;
        let id = published(&hub, "a", "live").await;
        let answer = checked(wire.answer().await);
        assert_eq!(data(&answer), ["live"]);
        assert_eq!(answer.field("last-event-id"), id);
        assert!(answer.json().get("gap").is_none());
    }
}

#[tokio::test]
async fn a_poll_behind_is_answered_at_once_with_what_is_there() {
    let hub = hub(&[]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(published(&hub, "a", &n.to_string()).await);
        published(&hub, "other", "x").await;
    }
    let answer = checked(ask(&hub, get("/v1/channels/a/poll?last_event_id=earliest")).await);
    assert_eq!(data(&answer), ["0", "1", "2", "3", "4"]);
    let id = ids[1].as_str();
    for fields in [
        [("Last-Event-ID", id.to_owned())],
        [("If-None-Match", format!("W/\"{id}\""))],
        [("If-None-Match", format!("\"{id}\""))],
        [("If-None-Match", id.to_owned())],
        [("If-None-Match", format!("  W/\"{id}\" "))],
    ] {
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = checked(ask(&hub, request("GET", "/v1/channels/a/poll", &fields, "")).await);
        assert_eq!(data(&answer), ["2", "3", "4"], "{fields:?}");
    }
}

#[tokio::test]
async fn the_positions_of_a_poll_have_an_order() {
    let hub = hub(&[]).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(published(&hub, "a", &n.to_string()).await);
    }
    let fields = [("If-None-Match", &*ids[0]), ("Last-Event-ID", &ids[2])];
    let query = format!("last_event_id={}", ids[1]);
    let target = format!("/v1/channels/a/poll?{query}");
    let answer = ask(&hub, request("GET", &target, &fields, "")).await;
    assert_eq!(data(&answer), ["3"], "the header wins");
    let answer = ask(&hub, request("GET", &target, &fields[..1], "")).await;
    assert_eq!(data(&answer), ["2", "3"], "then the query");
}

#[tokio::test]
async fn what_is_no_position_in_a_header_is_answered_with_a_gap() {
    let hub = hub(&[]).await;
    let id = published(&hub, "a", "1").await;
    let long = "x".repeat(20_000);
    for foreign in
        ["*", "W/\"a\", W/\"b\"", "\"a b\"", "\"a", "\u{434}", "urn:uuid:5e94c686", &long]
    {
        for name in ["If-None-Match", "Last-Event-ID"] {
            let fields = [(name, foreign)];
            let answer = ask(&hub, request("GET", "/v1/channels/a/poll", &fields, "")).await;
            let answer = checked(answer).json();
            assert_eq!(answer["gap"]["reason"], "unknown_position", "{name}: {foreign}");
            assert_eq!(answer["gap"]["requested"], foreign[..foreign.len().min(64)]);
            assert_eq!(answer["position"], id, "the next poll goes on from here");
        }
    }
    // The answers of the quickstart cannot carry a gap; without an event the poll waits.
    let fields = [("Last-Event-ID", "urn:uuid:5e94c686")];
    let mut wire = Wire::to(&hub).await;
    wire.send(request("GET", "/subscribe", &fields, "")).await;
    taken_on(&hub, 1).await;
    ask(&hub, post("/publish", r#"{"message":"2"}"#)).await;
    assert_eq!(wire.answer().await.json()["message"], "2");
}

#[tokio::test]
async fn an_etag_that_a_proxy_has_changed_is_a_position_still() {
    let hub = hub(&[]).await;
    let id = published(&hub, "a", "1").await;
    published(&hub, "a", "2").await;
    for tag in [
        format!("W/\"{id}-gzip\""),
        format!("\"{id}--gzip\""),
        format!("\"{id};br\""),
        format!("\"foreign\", W/\"{id}-gzip\""),
    ] {
        let fields = [("If-None-Match", &*tag)];
        let answer = ask(&hub, request("GET", "/v1/channels/a/poll", &fields, "")).await;
        assert_eq!(data(&checked(answer)), ["2"], "{tag}");
    }
}

#[tokio::test]
async fn an_etag_that_says_nothing_is_now() {
    let hub = hub(&[]).await;
    for none in ["", "\"\"", "W/\"\"", "W/\"now\""] {
        let fields = [("If-None-Match", none)];
        let answer = ask(&hub, request("GET", "/v1/channels/a/poll?timeout=0", &fields, "")).await;
        assert_eq!(checked(answer).status, 204, "{none}");
    }
}

#[tokio::test]
async fn a_poll_that_finds_nothing_in_time_is_204_with_its_position() {
    let hub = hub(&[]).await;
    let id = published(&hub, "a", "x").await;
    for (timeout, at_least) in [("0", 0), ("1", 1)] {
        let began = Instant::now();
        let target = format!("/v1/channels/a/poll?timeout={timeout}");
        let answer = checked(ask(&hub, get(&target)).await);
        assert_eq!((answer.status, answer.field("last-event-id")), (204, &*id));
        assert!(began.elapsed() >= Duration::from_secs(at_least), "{:?}", began.elapsed());
    }
    // The position moves on with the log, so that the next poll has less to look through.
    let elsewhere = published(&hub, "b", "x").await;
    let answer = ask(&hub, get(&format!("/v1/channels/a/poll?timeout=0&last_event_id={id}"))).await;
    assert_eq!((answer.status, answer.field("last-event-id")), (204, &*elsewhere));
}

#[tokio::test]
async fn the_default_wait_is_a_setting() {
    let hub = hub(&[("limits.poll.timeout_s", "1"), ("limits.poll.timeout_max_s", "2")]).await;
    let answer = checked(ask(&hub, get("/v1/channels/a/poll")).await);
    assert_eq!(answer.status, 204);
    ask(&hub, get("/v1/channels/a/poll?timeout=3")).await.refuses(400, "timeout");
}

#[tokio::test]
async fn a_limit_splits_what_is_there_without_loss() {
    let hub = hub(&[]).await;
    let mut sent = Vec::new();
    for n in 0..25 {
        let channel = ["a", "b", "c/d"][n % 3];
        ask(&hub, post(&format!("/v1/events?channel={channel}"), &n.to_string())).await;
        sent.push((channel.to_owned(), n.to_string()));
    }
    for limit in [1, 2, 7, 24, 25, 1000] {
        let mut position = "earliest".to_owned();
        let mut got = Vec::new();
        loop {
            let query = format!("limit={limit}&last_event_id={position}&timeout=0");
            let answer = checked(ask(&hub, get(&format!("/v1/poll?channel=**&{query}"))).await);
            if answer.status == 204 {
                break;
            }
            let events = pairs(&answer);
            assert!((1..=limit).contains(&events.len()), "{}", events.len());
            got.extend(events);
            position = answer.field("last-event-id").to_owned();
        }
        assert_eq!(got, sent, "limit {limit}");
    }
    let answer = ask(&hub, get("/v1/poll?channel=**&last_event_id=earliest")).await;
    assert_eq!(pairs(&answer).len(), 25, "the default limit is 100");
}

#[tokio::test]
async fn a_round_larger_than_the_limit_is_continued() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/poll?limit=2")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    let lines: String = (0..5).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    ask(&hub, super::batch("/v1/channels/a/events", &lines)).await;
    let answer = checked(wire.answer().await);
    assert_eq!(data(&answer), ["0", "1"]);
    let position = answer.field("last-event-id");
    wire.send(get(&format!("/v1/channels/a/poll?last_event_id={position}"))).await;
    assert_eq!(data(&checked(wire.answer().await)), ["2", "3", "4"]);
}

#[tokio::test]
async fn types_are_filtered_and_waited_for() {
    let hub = hub(&[]).await;
    ask(&hub, post("/v1/channels/a/events?type=x", "1")).await;
    ask(&hub, post("/v1/channels/a/events?type=y", "2")).await;
    let target = "/v1/channels/a/poll?type=x&last_event_id=earliest";
    let answer = checked(ask(&hub, get(target)).await);
    assert_eq!(data(&answer), ["1"]);
    let mut wire = Wire::to(&hub).await;
    let position = answer.field("last-event-id");
    wire.send(get(&format!("/v1/channels/a/poll?type=x&last_event_id={position}"))).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    ask(&hub, post("/v1/channels/a/events?type=y", "3")).await;
    ask(&hub, post("/v1/channels/a/events?type=x", "4")).await;
    assert_eq!(data(&checked(wire.answer().await)), ["4"]);
}

#[tokio::test]
async fn a_gap_is_a_member_of_the_answer() {
    let hub = hub(&[("limits.history.events_max", "2")]).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(published(&hub, "a", &n.to_string()).await);
    }
    for (position, reason, channel) in [
        (&*ids[0], "evicted", json!("a")),
        ("zzzzzzzz-3", "epoch", json!(null)),
        ("unknown", "unknown_position", json!(null)),
    ] {
        let fields = [("Last-Event-ID", position)];
        let answer = checked(ask(&hub, request("GET", "/v1/channels/a/poll", &fields, "")).await);
        assert_eq!(data(&answer), ["3", "4"]);
        let gap = answer.json()["gap"].clone();
        assert_eq!((&gap["reason"], &gap["requested"]), (&json!(reason), &json!(position)));
        assert_eq!((&gap["oldest"], &gap["channel"]), (&json!(ids[2]), &channel));
    }
    let fields = [("Last-Event-ID", &*ids[2])];
    let answer = ask(&hub, request("GET", "/v1/channels/a/poll", &fields, "")).await;
    assert!(answer.json().get("gap").is_none());
}

#[tokio::test]
async fn one_position_goes_from_polls_to_streams_and_back() {
    let hub = hub(&[]).await;
    published(&hub, "a", "1").await;
    let target = "/v1/poll?channel=a&channel=b&last_event_id=earliest";
    let answer = ask(&hub, get(target)).await;
    published(&hub, "b", "2").await;
    let fields = [("Last-Event-ID", answer.field("last-event-id"))];
    let mut wire = Wire::to(&hub).await;
    wire.send(request("GET", "/v1/events?channel=a&channel=b", &fields, "")).await;
    wire.stream_head().await;
    let block = wire.block().await;
    assert!(block.starts_with("data: 2\n"), "{block}");
    published(&hub, "a", "3").await;
    let fields = [("Last-Event-ID", super::field(&block, "id"))];
    let answer = ask(&hub, request("GET", "/v1/poll?channel=a&channel=b", &fields, "")).await;
    assert_eq!(data(&answer), ["3"]);
}
