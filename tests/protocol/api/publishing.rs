//! One event a request.

use serde_json::json;

use super::{
    data, data_json, is_time, retained,
    wire::{Wire, ask, get, hub, post, publish, request},
};

#[tokio::test]
async fn an_event_is_answered_with_its_id_and_channel() {
    let hub = hub(&[]).await;
    for (target, channel) in [
        ("/v1/channels/a/events", "a"),
        ("/v1/channels/a%2Fb/events", "a/b"),
        ("/v1/events?channel=a/b", "a/b"),
        ("/v1/events?channel=a%2Fb", "a/b"),
        ("/v1/events?channel=a+b", "a b"),
        ("/v1/channels/a+b/events", "a+b"),
        ("/v1/channels/%D0%B2%D1%96%D1%81%D0%BD%D0%B8%D0%BA/events", "вісник"),
        ("/v1/channels/100%25/events", "100%"),
    ] {
        let answer = ask(&hub, post(target, "x")).await;
        assert_eq!(answer.status, 201, "{target}: {answer:?}");
        assert_eq!(answer.field("content-type"), "application/json");
        let body = answer.json();
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
        assert_eq!(body["channel"], channel, "{target}");
        let id = body["id"].as_str().unwrap();
        assert!((1..=40).contains(&id.len()), "{id}");
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{id}");
    }
}

#[tokio::test]
async fn the_body_is_the_data_whatever_its_media_type() {
    let hub = hub(&[]).await;
    let bodies = [
        ("text/plain", "hello"),
        ("application/x-www-form-urlencoded", "hello=world&x"),
        ("application/json", "{ \"a\" : 1 }"),
        ("image/png", "not one"),
        ("multipart/form-data; boundary=x", "--x--"),
        ("application/x-ndjsonx", "{\"data\":1}"),
        ("", ""),
    ];
    for (media_type, body) in bodies {
        let fields = [("Content-Type", media_type)];
        let answer = ask(&hub, request("POST", "/v1/channels/a/events", &fields, body)).await;
        assert_eq!(answer.status, 201, "{media_type}");
    }
    let got = ask(&hub, get("/v1/channels/a/poll?last_event_id=earliest")).await;
    assert_eq!(data(&got), bodies.map(|(_, body)| body.to_owned()));
}

#[tokio::test]
async fn every_line_end_is_carried_as_lf() {
    let hub = hub(&[]).await;
    for (sent, carried, blocks) in [
        ("a\r\nb\rc\nd", "a\nb\nc\nd", "data: a\ndata: b\ndata: c\ndata: d\n"),
        ("\r\r\n", "\n\n", "data: \ndata: \ndata: \n"),
        ("end\r\n", "end\n", "data: end\ndata: \n"),
        ("data: x\n\nid: 1", "data: x\n\nid: 1", "data: data: x\ndata: \ndata: id: 1\n"),
        (" space", " space", "data:  space\n"),
        ("\u{2028}\u{85}\0", "\u{2028}\u{85}\0", "data: \u{2028}\u{85}\0\n"),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get("/v1/channels/a/events")).await;
        wire.stream_head().await;
        let answer = ask(&hub, publish("a", sent)).await;
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let block = wire.through(&format!("id: {id}\n\n")).await;
        assert_eq!(block, format!("{blocks}id: {id}\n\n"), "{sent:?}");
        let last = retained(&hub, "a").await.pop().unwrap();
        assert_eq!(last.1, carried);
    }
}

#[tokio::test]
async fn type_and_retry_come_with_the_event_in_their_order() {
    let hub = hub(&[]).await;
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a/events")).await;
    wire.stream_head().await;
    for (query, fields) in [
        ("type=paid&retry=1500", "event: paid\nretry: 1500\n"),
        ("retry=0", "retry: 0\n"),
        ("retry=3600000", "retry: 3600000\n"),
        ("type=a%20b%3A%20%D1%96", "event: a b: і\n"),
        // A name of its own for what EventSource calls `message` anyway.
        ("type=message", "event: message\n"),
    ] {
        let answer = ask(&hub, post(&format!("/v1/channels/a/events?{query}"), "x")).await;
        let id = answer.json()["id"].clone();
        assert_eq!(
            wire.block().await,
            format!("{fields}data: x\nid: {}\n\n", id.as_str().unwrap())
        );
    }
}

#[tokio::test]
async fn ids_grow_with_the_log_across_channels() {
    let hub = hub(&[]).await;
    let mut ids = Vec::new();
    for channel in ["a", "b", "a", "c"] {
        let answer = ask(&hub, publish(channel, channel)).await;
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    // Each id is a position in all channels: what comes after it is what was published after it.
    for (n, id) in ids.iter().enumerate() {
        let target = format!("/v1/poll?channel=**&last_event_id={id}&timeout=0");
        let answer = ask(&hub, get(&target)).await;
        match n {
            3 => assert_eq!(answer.status, 204),
            _ => assert_eq!(data(&answer), ["a", "b", "a", "c"][n + 1..]),
        }
    }
}

#[tokio::test]
async fn an_acknowledged_event_is_in_the_envelope_it_was_promised() {
    let hub = hub(&[]).await;
    let answer = ask(&hub, post("/v1/events?channel=a/b&type=paid", "line\n\"two\"")).await;
    let id = answer.json()["id"].clone();
    let mut wire = Wire::to(&hub).await;
    wire.send(get("/v1/channels/a%2Fb/events?last_event_id=earliest&format=envelope")).await;
    wire.stream_head().await;
    let streamed = data_json(&wire.block().await);
    assert!(is_time(&streamed["time"]), "{streamed}");
    let time = streamed["time"].clone();
    let expected = json!({
        "id": id, "channel": "a/b", "type": "paid", "time": time, "data": "line\n\"two\"",
    });
    assert_eq!(streamed, expected);
    let polled = ask(&hub, get("/v1/channels/a%2Fb/poll?last_event_id=earliest")).await.json();
    assert_eq!(polled, json!({"events": [expected], "position": id}));
}
