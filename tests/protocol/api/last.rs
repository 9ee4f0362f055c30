//! `last=N`: a start some events back on each channel, and `truncated`.

use visnyk_loadtest::Hub;

use super::{
    batch, data, data_json, field, pairs,
    wire::{Wire, ask, get, hub, metric_is, post, published, request},
};

/// A hub on which `busy` has had six events and then `quiet` one.
async fn two_channels() -> Hub {
    let hub = hub(&[]).await;
    for n in 1..=6 {
        published(&hub, "busy", &n.to_string()).await;
    }
    published(&hub, "quiet", "only").await;
    hub
}

#[tokio::test]
async fn each_channel_starts_with_its_last_events_on_every_route() {
    let hub = two_channels().await;
    for (target, due) in [
        ("channels/busy/events?last=2", &["5", "6"][..]),
        ("events?channel=busy&channel=quiet&last=1", &["6", "only"]),
        ("events?channel=**&last=3", &["4", "5", "6", "only"]),
        ("events?channel=busy&channel=*&last=1000", &["1", "2", "3", "4", "5", "6", "only"]),
    ] {
        let polled = target.replace("events", "poll");
        let poll = ask(&hub, get(&format!("/v1/{polled}&timeout=0"))).await;
        assert_eq!(data(&poll), due, "{target}");
        assert!(poll.json().get("gap").is_none() && poll.json().get("truncated").is_none());
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/{target}"))).await;
        let (_, first) = wire.stream_head().await;
        for data in due {
            assert_eq!(field(&wire.block().await, "data"), *data, "{target}");
        }
        // Cut before its first event, it misses none of them.
        let again = [("Last-Event-ID", field(&first, "id"))];
        let poll = ask(&hub, request("GET", &format!("/v1/{polled}"), &again, "")).await;
        assert_eq!(data(&poll)[0], due[0], "{target}");
    }
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/busy/events?last=1")).await;
    wire.stream_head().await;
    assert_eq!(field(&wire.block().await, "data"), "6");
    published(&hub, "busy", "live").await;
    assert_eq!(field(&wire.block().await, "data"), "live", "and then what comes");

    for message in ["one", "two"] {
        ask(&hub, post("/publish", &format!("{{\"message\":\"{message}\"}}"))).await;
    }
    let answer = ask(&hub, get("/subscribe?last=1")).await;
    assert_eq!(answer.json()["message"], "two");
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/events?last=1")).await;
    wire.stream_head().await;
    assert_eq!(data_json(&wire.block().await)["message"], "two");
}

#[tokio::test]
async fn a_position_beats_the_last_events_and_a_bad_number_is_refused() {
    let hub = two_channels().await;
    let id = published(&hub, "busy", "7").await;
    published(&hub, "busy", "8").await;
    for (query, fields) in [
        ("last=5".to_owned(), vec![("Last-Event-ID", &*id)]),
        (format!("last=5&lastEventId={id}"), vec![]),
        (format!("last=5&last_event_id={id}"), vec![]),
        ("last=5".to_owned(), vec![("If-None-Match", &*id)]),
    ] {
        let target = format!("/v1/channels/busy/poll?timeout=0&{query}");
        let answer = ask(&hub, request("GET", &target, &fields, "")).await;
        assert_eq!(data(&answer), ["8"], "{query}");
    }
    for bad in ["", "0", "-1", "1001", "ten", "1.5", "5&last=5"] {
        for route in ["/v1/channels/a/events", "/v1/channels/a/poll", "/events", "/subscribe"] {
            for start in ["", "last_event_id=earliest&"] {
                let target = format!("{route}?{start}last={bad}");
                ask(&hub, get(&target)).await.refuses(400, "last");
            }
        }
    }
    // Nothing yet, nothing missing.
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/new/poll?last=5")).await;
    metric_is(&hub, "visnyk_pollers", 1).await;
    published(&hub, "new", "first").await;
    assert_eq!(data(&wire.answer().await), ["first"]);
}

#[tokio::test]
async fn the_last_events_of_a_type_are_counted_without_the_others() {
    let hub = hub(&[]).await;
    let mut lines = String::new();
    for n in 0..900 {
        let event_type = if n == 3 || n == 5 { "rare" } else { "often" };
        lines += &format!("{{\"data\":{n},\"type\":\"{event_type}\"}}\n");
    }
    for channel in ["a", "b/1", "b/2"] {
        let target = format!("/v1/channels/{}/events", channel.replace('/', "%2F"));
        assert_eq!(ask(&hub, batch(&target, &lines)).await.status, 201);
    }
    for (query, due) in [
        ("channel=a&type=rare&last=1", &["5"][..]),
        ("channel=a&type=rare&last=2", &["3", "5"]),
        ("channel=b/*&type=rare&last=1", &["5", "5"]),
        ("channel=a&type=rare&type=often&last=2", &["898", "899"]),
        ("channel=**&type=rare&last=1000", &["3", "5", "3", "5", "3", "5"]),
    ] {
        let answer = ask(&hub, get(&format!("/v1/poll?{query}&timeout=0"))).await;
        // What one poll does not come to the next one does.
        let mut found = data(&answer);
        let mut position = answer.field("last-event-id").to_owned();
        while found.len() < due.len() {
            let query = query.split("&last").next().unwrap();
            let target = format!("/v1/poll?{query}&timeout=1&last_event_id={position}");
            let answer = ask(&hub, get(&target)).await;
            position = answer.field("last-event-id").to_owned();
            found.extend(data(&answer));
        }
        assert_eq!(found, due, "{query}");
        let mut wire = Wire::to(&hub).await;
        wire.send(get(&format!("/v1/events?{query}"))).await;
        wire.stream_head().await;
        for data in due {
            assert_eq!(field(&wire.block().await, "data"), *data, "{query}");
        }
    }
}

#[tokio::test]
async fn all_channels_together_start_with_ten_thousand_events() {
    let hub = hub(&[]).await;
    for channel in 0..11 {
        let lines: String =
            (0..1_000).map(|n| format!("{{\"data\":\"{channel} {n}\"}}\n")).collect();
        let target = format!("/v1/channels/c%2F{channel}/events");
        assert_eq!(ask(&hub, batch(&target, &lines)).await.status, 201);
    }
    for (channels, last, first) in [
        ("channel=c/*".to_owned(), 1_000, "1 0"),
        ("channel=c/*".to_owned(), 900, "0 100"),
        ((0..11).map(|n| format!("channel=c/{n}&")).collect(), 1_000, "1 0"),
    ] {
        let target = format!("/v1/poll?{channels}&last={last}&limit=1");
        assert_eq!(data(&ask(&hub, get(&target)).await), [first], "{target}");
    }
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/events?channel=**&last=1")).await;
    wire.stream_head().await;
    for channel in 0..11 {
        assert_eq!(field(&wire.block().await, "data"), format!("{channel} 999"));
    }
}

#[tokio::test]
async fn a_closed_channel_starts_with_its_last_events_and_its_end() {
    let hub = two_channels().await;
    let closed = request("DELETE", "/v1/channels/busy", &[], "");
    assert_eq!(ask(&hub, closed).await.status, 204);
    let answer = ask(&hub, get("/v1/channels/busy/poll?last=2")).await;
    assert_eq!(data(&answer), ["5", "6", "busy"]);
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/busy/events?last=1")).await;
    wire.stream_head().await;
    assert_eq!(field(&wire.block().await, "data"), "6");
    assert!(wire.block().await.starts_with("event: visnyk.closed\n"));
    wire.closed().await;
}

#[tokio::test]
async fn a_start_with_history_tells_that_older_events_are_gone() {
    let hub = hub(&[("limits.history.events_max", "2")]).await;
    for n in 0..5 {
        published(&hub, "lost%2Fsome", &n.to_string()).await;
    }
    published(&hub, "whole", "x").await;
    for (channels, truncated) in [
        ("channel=lost/some", true),
        ("channel=lost/*", true),
        ("channel=**", true),
        ("channel=whole", false),
        ("channel=whole/**", false),
        ("channel=whole&channel=lost/**", true),
    ] {
        for start in ["last_event_id=earliest", "last=1"] {
            let target = format!("/v1/poll?{channels}&{start}&timeout=0");
            let answer = ask(&hub, get(&target)).await;
            let said = answer.json().get("truncated").cloned();
            assert_eq!(said, truncated.then(|| true.into()), "{target}");
            assert!(!pairs(&answer).is_empty() && answer.json().get("gap").is_none());
            let mut wire = Wire::to(&hub).await;
            wire.send(get(&format!("/v1/events?{channels}&{start}&hello=1"))).await;
            wire.stream_head().await;
            let hello = data_json(&wire.block().await);
            assert_eq!(hello.get("truncated").cloned(), said, "{channels} {start}");
        }
        // A poll that asks for no history need not know.
        let position = ask(&hub, get(&format!("/v1/poll?{channels}&timeout=0"))).await;
        let position = position.field("last-event-id").to_owned();
        published(&hub, "lost%2Fsome", "x").await;
        let target = format!("/v1/poll?channel=lost/**&last_event_id={position}&timeout=0");
        assert!(ask(&hub, get(&target)).await.json().get("truncated").is_none());
    }
}

#[tokio::test]
async fn a_poll_that_starts_with_history_and_waits_tells_that_older_events_are_gone() {
    let hub = hub(&[("limits.history.events_max", "2")]).await;
    for n in 0..5 {
        published(&hub, "lost", &n.to_string()).await;
    }
    published(&hub, "whole", "x").await;
    for (channel, start, truncated) in
        [("lost", "last=1", true), ("whole", "last_event_id=earliest", false)]
    {
        // There is no event of this type, so it waits.
        let mut wire = Wire::to(&hub).await;
        let target = format!("/v1/poll?channel={channel}&{start}&type=rare");
        wire.send(get(&target)).await;
        metric_is(&hub, "visnyk_pollers", 1).await;
        let post = format!("/v1/events?channel={channel}&type=rare");
        assert_eq!(ask(&hub, request("POST", &post, &[], "x")).await.status, 201);
        let said = wire.answer().await.json().get("truncated").cloned();
        assert_eq!(said, truncated.then(|| true.into()), "{target}");
    }
}
