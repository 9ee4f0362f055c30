//! Hubs on one server, held up at moments that no client can choose.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};
use visnyk_loadtest::RedisServer;

use super::{BackendOptions, Hub, Publication, PublishError, StreamRequest};
use crate::{
    actors::EventBody,
    model::{ChannelName, NewEvent},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_attaches_while_the_log_is_loaded_anew_skips_nothing() {
    let server = RedisServer::start(&[]);
    let (hub, other) = (hub_on(&server).await, hub_on(&server).await);
    publish(&hub, "before").await;
    let stage = hub.0.log.shared().expect("it is shared");
    let old = open(&hub).await;
    let epoch = hub.epoch();
    stage.hold_load(true);
    server.command(&["FLUSHALL"]);
    // It is ended, and the load waits.
    rest_of(old).await;
    assert_eq!(hub.epoch(), epoch, "positions of the new one would claim what is not loaded yet");
    assert!(hub.is_loading(), "it is not ready");
    // It was admitted before: while the log is loaded others wait.
    let stream = open(&hub).await;
    for n in 1..=3 {
        publish(&other, &format!("lost {n}")).await;
    }
    stage.hold_load(false);
    while hub.head() != other.head() {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!hub.is_loading());
    publish(&other, "next").await;
    let text = rest_of(stream).await;
    assert!(!text.contains("data:"), "it goes on behind events that it was not sent: {text}");
    hub.shut_down().await;
    other.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_end_however_many_a_shard_has() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server).await;
    let mut streams = Vec::new();
    for _ in 0..600 {
        streams.push(open(&hub).await);
    }
    server.command(&["FLUSHALL"]);
    for stream in streams {
        rest_of(stream).await;
    }
    hub.shut_down().await;
}

async fn hub_on(server: &RedisServer) -> Hub {
    let options = BackendOptions::new(server.url().parse().expect("an address"));
    Hub::builder().shards(1).backend(options).start().await.expect("it starts")
}

async fn publish(hub: &Hub, data: &str) {
    let name = ChannelName::parse("a").expect("a name");
    loop {
        let event = NewEvent::message(data);
        match hub.publish(Publication::one(name.clone(), event)).await {
            Ok(_) => return,
            // The log is loaded anew.
            Err(error) => assert_eq!(error, PublishError::BackendAway),
        }
    }
}

/// A stream from now on, without the wait of one that is not admitted yet.
async fn open(hub: &Hub) -> EventBody {
    let stream = StreamRequest::channel("a").expect("a channel");
    hub.open(hub.admit_stream(stream).expect("room")).await.expect("it is open")
}

/// What a stream sends until it ends.
async fn rest_of(mut stream: EventBody) -> String {
    let mut text = String::new();
    while let Some(frame) = timeout(PATIENCE, stream.frame()).await.expect("it ends") {
        if let Ok(data) = frame.expect("no error").into_data() {
            text += std::str::from_utf8(&data).expect("UTF-8");
        }
    }
    text
}

const PATIENCE: Duration = Duration::from_secs(10);
