//! Publishes whose clients go away before the answer. Over HTTP/2 their requests end, and their
//! spans say so; over HTTP/1.1 the hub does not look, since a client may have shut down its sending
//! side alone.

use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};
use visnyk_loadtest::RedisServer;

use super::{
    PARENT,
    collector::{Behaviour, Collector, SpanSeen},
    hub_with, only, sampled,
};
use crate::{support::TestHub, tls::Client};

const REQUEST: &str = "POST /v1/channels/{channel}/events";
const CANCELLED: &str = "visnyk_publishes_cancelled_total";

/// Begins a publish over HTTP/2, in a client's trace, until the hub has its body; with it there are
/// so many bytes of bodies. The request is reset when the task is aborted.
async fn begin_publish(hub: &TestHub, channel: &str, bodies_bytes: u32) -> JoinHandle<()> {
    let client = Client::h2c(hub.address()).await;
    let target = format!("/v1/channels/{channel}/events");
    let publish = tokio::spawn(async move {
        let parent = sampled();
        let answer = client.send("POST", &target, &[("traceparent", &parent)], "hello").await;
        panic!("it is answered: {answer:?}");
    });
    hub.wait_for_metric("visnyk_body_bytes", |bytes| bytes == f64::from(bodies_bytes)).await;
    publish
}

/// Whether the request has ended.
fn has_ended(spans: &[SpanSeen]) -> bool {
    spans.iter().any(|span| span.name == REQUEST)
}

/// Why each of these spans failed.
fn errors<'a>(spans: &'a [SpanSeen], names: &[&str]) -> Vec<Option<&'a str>> {
    let error = |name: &&str| {
        let span = only(spans, name);
        let error = span.attributes.get("error.type").and_then(|word| word.as_str());
        assert_eq!(span.is_error, error.is_some(), "{span:#?}");
        error
    };
    names.iter().map(error).collect()
}

#[tokio::test]
async fn a_client_that_leaves_while_its_events_are_appended_ends_its_spans() {
    let server = RedisServer::start(&[]);
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[("backend.url", &server.url())]).await;
    server.pause();
    let publish = begin_publish(&hub, "a", 5).await;
    assert_eq!(hub.metric(CANCELLED).await, 0.0);
    publish.abort();
    let spans = collector.wait_for(has_ended).await;
    let error = Some("cancelled");
    assert_eq!(
        errors(&spans, &[REQUEST, "publish", "admit", "append"]),
        [error, error, None, error]
    );
    let request = only(&spans, REQUEST);
    assert_eq!(request.parent.as_deref(), Some(PARENT));
    assert!(!request.attributes.contains_key("http.response.status_code"), "{request:#?}");
    let publish = only(&spans, "publish");
    publish.is_within(request);
    assert_eq!(publish.attributes["messaging.destination.name"], "a");
    only(&spans, "append").is_within(publish);
    assert_eq!(hub.metric(CANCELLED).await, 1.0);
    // What was handed to the log is appended, and its spans come after those of the request.
    server.resume();
    let spans = collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
    let (durable, append) = (only(&spans, "make_durable"), only(&spans, "append"));
    assert_eq!(durable.parent.as_deref(), Some(&*append.id));
    assert!(durable.ended_ns > append.ended_ns && !durable.is_error, "{durable:#?}");
    assert_eq!(hub.retained("channel=a", "earliest").await, ["hello"]);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_for_permits_ends_its_spans() {
    let server = RedisServer::start(&[]);
    let collector = Collector::start(Behaviour::Takes).await;
    let settings = [
        ("backend.url", &*server.url()),
        ("limits.publish.in_flight_max", "1"),
        ("limits.publish.wait_ms", "600000"),
    ];
    let hub = hub_with(&collector, &settings).await;
    server.pause();
    let _first = send_publish(&hub, "").await;
    hub.wait_for_metric("visnyk_permits_free", |free| free == 0.0).await;
    begin_publish(&hub, "b", 6).await.abort();
    let spans = collector.wait_for(has_ended).await;
    let error = Some("cancelled");
    assert_eq!(errors(&spans, &[REQUEST, "publish", "admit"]), [error, error, error]);
    assert!(spans.iter().all(|span| span.name != "append"), "{spans:#?}");
    assert_eq!(hub.metric(CANCELLED).await, 1.0);
}

/// Sends a publish over HTTP/1.1 with this field, and does not wait for its answer.
async fn send_publish(hub: &TestHub, field: &str) -> TcpStream {
    let mut socket = TcpStream::connect(hub.address()).await.expect("the hub listens");
    let request = format!(
        "POST /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\n{field}Content-Length: 1\r\n\r\nx"
    );
    socket.write_all(request.as_bytes()).await.expect("it is taken");
    socket
}

#[tokio::test]
async fn over_http1_the_publish_of_a_client_that_leaves_goes_on() {
    let server = RedisServer::start(&[]);
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[("backend.url", &server.url())]).await;
    server.pause();
    let client = send_publish(&hub, &format!("traceparent: {}\r\n", sampled())).await;
    hub.wait_for_metric("visnyk_traces_total", |count| count == 1.0).await;
    drop(client);
    server.resume();
    let spans = collector.wait_for(has_ended).await;
    assert_eq!(errors(&spans, &[REQUEST, "publish", "append"]), [None; 3]);
    assert_eq!(only(&spans, REQUEST).attributes["http.response.status_code"], 201);
    assert_eq!(hub.metric(CANCELLED).await, 0.0);
}
