//! The hub as a library in another server: the example, and bodies instead of sockets.
#[path = "../../examples/embed.rs"]
#[expect(dead_code, reason = "its `main` is for `cargo run --example embed`")]
mod embed;
#[path = "../../examples/embed_hyper.rs"]
#[expect(dead_code, reason = "its `main` is for `cargo run --example embed_hyper`")]
mod embed_hyper;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::wire::{PATIENCE, Wire, get, post, request};
use http_body_util::BodyExt;
use tokio::{net::TcpListener, time::timeout};
use visnyk::{
    actors::EventBody,
    core::Limits,
    hub::{Hub, Publication, StreamRequest},
    model::{LastEvents, Start},
};
use visnyk_loadtest::{Exchange, PollClient, SseClient, SseRequest};

/// The example's server on a free port.
async fn example() -> (Hub, SocketAddr) {
    let hub = Hub::builder().start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = embed::app(hub.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (hub, address)
}

async fn gauge_is(hub: &Hub, name: &str, value: u64) {
    let line = format!("{name} {value}");
    let deadline = Instant::now() + PATIENCE;
    while !hub.metrics().lines().any(|found| found == line) {
        assert!(Instant::now() < deadline, "never {line}:\n{}", hub.metrics());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a body gives until `end`, which must come.
async fn through(body: &mut EventBody, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let frame = timeout(PATIENCE, body.frame()).await.expect("in time");
        let frame = frame.unwrap_or_else(|| panic!("the end after {text:?}")).unwrap();
        text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
    }
    text
}

async fn publish(hub: &Hub, channel: &str, data: &str) -> String {
    let published = hub.publish(Publication::message(channel, data).unwrap()).await.unwrap();
    published.last.to_string()
}

#[tokio::test]
async fn streams_polls_and_publishes_work_through_bodies() {
    let (hub, address) = example().await;
    let streams = [
        SseRequest::new("/push/v1/events?channel=orders/**"),
        SseRequest::new("/push/v1/channels/orders%2F1/events"),
        SseRequest::new("/orders/1/events"),
    ];
    let mut clients = Vec::new();
    for stream in &streams {
        let mut client = SseClient::connect(address, stream).await.unwrap();
        assert_eq!(client.head().status, 200);
        let first = client.next_block(PATIENCE).await.unwrap().unwrap();
        assert!(first.retry_ms.is_some() && first.id.is_some(), "{first:?}");
        clients.push(client);
    }
    let target = "/push/v1/poll?channel=orders/1";
    let poll = tokio::spawn(async move { PollClient::new(address, target).next(PATIENCE).await });
    gauge_is(&hub, "visnyk_streams", 3).await;
    gauge_is(&hub, "visnyk_pollers", 1).await;

    let mut publisher = Exchange::new(address);
    let answer = publisher.request("POST", "/orders/1/paid", &[], b"", PATIENCE).await.unwrap();
    assert_eq!(answer.status(), 200);
    let own = answer.body.clone();
    let answer =
        publisher.request("POST", "/push/v1/channels/orders%2F1/events", &[], b"sent", PATIENCE);
    let sent = answer.await.unwrap().json()["id"].as_str().unwrap().to_owned();

    for client in &mut clients {
        for (data, id) in [("paid", &own), ("sent", &sent)] {
            let event = client.next_event(PATIENCE).await.unwrap().unwrap();
            assert_eq!((event.data.as_deref(), event.id.as_ref()), (Some(data), Some(id)));
        }
    }
    let polled = poll.await.unwrap().unwrap();
    assert_eq!((polled.answer.status(), &*polled.events[0].data), (200, "paid"));
    // The second event may be in the same round as the first.
    let last = polled.events.last().map(|event| &*event.id);
    assert_eq!(polled.answer.head.field("last-event-id"), last);

    drop(clients);
    gauge_is(&hub, "visnyk_streams", 0).await;
    hub.shut_down().await;
}

#[tokio::test]
async fn a_poll_through_a_body_keeps_the_connection() {
    let (hub, address) = example().await;
    let mut wire = Wire::at(address).await;
    let mut position = "now".to_owned();
    for n in 0..10 {
        wire.send(get(&format!("/push/v1/channels/a/poll?last_event_id={position}"))).await;
        gauge_is(&hub, "visnyk_pollers", 1).await;
        position = publish(&hub, "a", &n.to_string()).await;
        let answer = wire.answer().await;
        assert_eq!(answer.json()["events"][0]["data"], n.to_string());
        assert_eq!(answer.field("etag"), format!("W/\"{position}\""));
    }
    let began = Instant::now();
    wire.send(get("/push/v1/channels/a/poll?timeout=1")).await;
    assert_eq!(wire.answer().await.status, 204);
    assert!(began.elapsed() >= Duration::from_secs(1));
    wire.send(get("/push/v1/channels/a/poll?timeout=20")).await;
    gauge_is(&hub, "visnyk_pollers", 1).await;
    drop(wire);
    gauge_is(&hub, "visnyk_pollers", 0).await;
}

#[tokio::test]
async fn the_rest_of_the_surface_is_there_under_its_prefix() {
    let (hub, address) = example().await;
    let mut wire = Wire::at(address).await;
    for (target, status) in [
        ("/push/healthz", 200),
        ("/push/metrics", 200),
        ("/push/v1/channels", 200),
        ("/push/visnyk.js", 200),
        ("/push/nowhere", 404),
        ("/push/v1/events", 400),
    ] {
        wire.send(get(target)).await;
        assert_eq!(wire.answer().await.status, status, "{target}");
    }
    wire.send(request("HEAD", "/push/v1/channels/a/events", &[], "")).await;
    assert_eq!(wire.head().await.status, 200);
    wire.send(post("/push/publish", r#"{"message":"x"}"#)).await;
    assert_eq!(wire.answer().await.json()["status"], "Message sent");
    wire.send(request("PUT", "/push/v1/events", &[], "")).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.field("allow")), (405, "GET, HEAD, POST, OPTIONS"));
    let foreign = [("Origin", "http://evil.example")];
    wire.send(request("POST", "/push/v1/channels/a/events", &foreign, "x")).await;
    wire.answer().await.refuses(403, "Origin");
    let body = [("Content-Length", "3")];
    wire.send(request("GET", "/push/v1/channels/a/events", &body, "") + "abc").await;
    wire.answer().await.refuses(400, "body");
    wire.closed().await;
    hub.shut_down().await;
}

#[tokio::test]
async fn a_server_made_of_hyper_runs_the_same_router() {
    let hub = Hub::builder().shards(1).start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(embed_hyper::serve(listener, hub.clone()));
    let stream = SseRequest::new("/v1/channels/a/events");
    let mut client = SseClient::connect(address, &stream).await.unwrap();
    let mut wire = Wire::at(address).await;
    wire.send(crate::wire::publish("a", "x") + &get("/v1/channels/a/poll?last_event_id=earliest"))
        .await;
    assert_eq!(wire.answer().await.status, 201);
    assert_eq!(wire.answer().await.json()["events"][0]["data"], "x");
    let event = client.next_event(PATIENCE).await.unwrap().unwrap();
    assert_eq!(event.data.as_deref(), Some("x"));
    drop(client);
    gauge_is(&hub, "visnyk_streams", 0).await;
    hub.shut_down().await;
}

#[tokio::test]
async fn a_body_of_ones_own_has_every_event_and_dropping_it_ends_the_stream() {
    let hub = Hub::builder().shards(2).start().await.unwrap();
    publish(&hub, "a", "before").await;
    let mut earliest = StreamRequest::channel("a").unwrap();
    earliest.start = Start::Earliest;
    let mut last = StreamRequest::channel("a").unwrap();
    last.start = Start::Last(LastEvents::new(1).unwrap());
    let mut bodies = vec![
        hub.stream(earliest).await.unwrap(),
        hub.stream(last).await.unwrap(),
        hub.stream(StreamRequest::channel("a").unwrap()).await.unwrap(),
        hub.stream(StreamRequest::channel("**").unwrap()).await.unwrap(),
    ];
    gauge_is(&hub, "visnyk_streams", 4).await;
    let last = publish(&hub, "a", "live").await;
    for (n, body) in bodies.iter_mut().enumerate() {
        let text = through(body, &format!("data: live\nid: {last}\n\n")).await;
        assert!(text.starts_with(": visnyk\nretry: "), "{text}");
        assert_eq!(text.contains("data: before\n"), n < 2, "{text}");
    }
    for left in (0..4).rev() {
        bodies.pop();
        gauge_is(&hub, "visnyk_streams", left).await;
    }
    hub.shut_down().await;
}

#[tokio::test]
async fn an_unread_body_is_a_slow_client() {
    let mut limits = Limits::default();
    limits.connections.lag_events_max = 100;
    let hub = Hub::builder().limits(limits).shards(1).start().await.unwrap();
    let mut stalled = hub.stream(StreamRequest::channel("a").unwrap()).await.unwrap();
    let mut reader = hub.stream(StreamRequest::channel("a").unwrap()).await.unwrap();
    let kilobyte = "x".repeat(1_000);
    for n in 0..300 {
        publish(&hub, "a", &format!("{n} {kilobyte}")).await;
        through(&mut reader, "\n\n").await;
    }
    let closed = "visnyk_connections_closed_total{reason=\"slow_consumer\"}";
    gauge_is(&hub, closed, 1).await;
    // What lies in it is bounded, in order, and followed by the end.
    let mut text = String::new();
    while let Some(frame) = timeout(PATIENCE, stalled.frame()).await.expect("in time") {
        text += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
    }
    assert!(text.len() < 20_000, "{}", text.len());
    for (n, data) in text.lines().filter_map(|line| line.strip_prefix("data: ")).enumerate() {
        assert!(data.starts_with(&format!("{n} ")), "{data}");
    }
    hub.shut_down().await;
}

#[tokio::test]
async fn a_drain_ends_bodies_with_a_time_to_come_back() {
    let hub = Hub::builder().start().await.unwrap();
    let mut body = hub.stream(StreamRequest::channel("a").unwrap()).await.unwrap();
    through(&mut body, "\n\n").await;
    hub.drain(Duration::from_millis(100)).await;
    let last = through(&mut body, "\n\n").await;
    assert!(last.starts_with("retry: "), "{last}");
    assert!(timeout(PATIENCE, body.frame()).await.expect("in time").is_none());
    let refused = hub.stream(StreamRequest::channel("a").unwrap()).await;
    assert!(refused.expect_err("it is going down").is_temporary());
    hub.shut_down().await;
}
