//! HTTP/2 connections while the hub drains.

use rustix::process::Signal;

use super::{
    client::Client,
    raw::{self, Raw},
    support::{PATIENCE, TestHub},
};

#[tokio::test]
async fn http2_clients_between_two_polls_get_what_was_acknowledged() {
    // The end of the drain is that of the test.
    let settings = [("DRAIN_WINDOW_S", "600"), ("LIMITS__POLL__DRAIN_PAUSE_MS", "600000")];
    let mut hub = TestHub::start(&settings).await;
    let start = hub.publish("a", "first").await;
    hub.publish("a", "second").await;
    let target = format!("/v1/poll?channel=a&limit=1&last_event_id={start}");
    let client = Client::h2c(hub.address()).await;
    let (status, answer) = client.ask("GET", &target, &[], "").await;
    assert!(status == 200 && answer.contains("second"), "{status} {answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let at = answer["position"].as_str().expect("a position").to_owned();
    let last = hub.publish("a", "third").await;
    hub.signal(Signal::TERM).expect("it runs");
    hub.wait_for_line("draining", PATIENCE).await.expect("a line");

    // Its connection is closed, so it opens another one. A GOAWAY comes there only after the
    // request.
    let mut raw = Raw::connect(hub.address(), &[]).await;
    raw.send(&raw::frame(raw::PING, 0, 0, b"question")).await.expect("it reads");
    loop {
        let frame = raw.next().await.expect("a frame");
        assert_ne!(frame.kind, raw::GOAWAY);
        if frame.kind == raw::PING && frame.flags == 1 {
            break;
        }
    }
    raw.get(1, &format!("/v1/poll?channel=a&last_event_id={at}")).await;
    let (mut is_closing, mut body) = (false, Vec::new());
    while let Some(frame) = raw.next().await {
        match frame.kind {
            raw::GOAWAY => is_closing = true,
            raw::DATA => body.extend_from_slice(&frame.payload),
            raw::PING if frame.flags == 0 => {
                let answer = raw::frame(raw::PING, 1, 0, &frame.payload);
                raw.send(&answer).await.expect("it reads");
            }
            _ => {}
        }
    }
    assert!(is_closing);
    assert!(String::from_utf8_lossy(&body).contains("third"), "{body:?}");
    let client = Client::h2c(hub.address()).await;
    let target = format!("/v1/poll?channel=a&last_event_id={at}");
    let (status, answer) = client.ask("GET", &target, &[], "").await;
    assert!(status == 200 && answer.contains("third"), "{status} {answer}");
    let client = Client::h2c(hub.address()).await;
    let target = format!("/v1/poll?channel=a&last_event_id={last}");
    assert_eq!(client.ask("GET", &target, &[], "").await.0, 503, "it has everything");
}

#[tokio::test]
async fn http2_clients_are_sent_goaway_at_once_and_keep_their_streams() {
    // Enough streams for the window, so that one is there for some time.
    let settings = [("DRAIN_WINDOW_S", "2"), ("SHARDS", "1")];
    let hub = TestHub::start(&settings).await;
    let mut client = Raw::connect(hub.address(), &[]).await;
    let streams = 100;
    for number in 0..streams {
        client.get(1 + 2 * number, "/v1/channels/a/events").await;
        assert!(client.next_of(raw::HEADERS).await.is_some());
    }
    hub.signal(Signal::TERM).expect("it runs");
    let goaway = client.next_of(raw::GOAWAY).await.expect("a frame");
    assert_eq!(goaway.payload[..4], (u32::MAX >> 1).to_be_bytes(), "no stream is lost");
    assert_eq!(goaway.payload[4..8], [0; 4], "no error");
    // The streams go on to their ends.
    let mut ended = 0;
    while let Some(frame) = client.next().await {
        match frame.kind {
            raw::PING if frame.flags == 0 => {
                let answer = raw::frame(raw::PING, 1, 0, &frame.payload);
                client.send(&answer).await.expect("it reads");
            }
            raw::DATA => ended += u32::from(frame.flags & raw::END_STREAM != 0),
            _ => {}
        }
    }
    assert_eq!(ended, streams);
}
