//! The usual axum way to broadcast Server-Sent Events: a `tokio::sync::broadcast` channel for each
//! channel, a `Sse` response with keep-alive over a `BroadcastStream` for each subscriber.
//!
//! `GET /CHANNEL` is a stream, `POST /CHANNEL` publishes its body. `GET /poll/CHANNEL` waits for
//! the next event on a `tokio::sync::watch` channel, which keeps the last one. Port 0 of loopback;
//! the address goes to stderr. Two worker threads.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};

type Channels = Arc<Mutex<HashMap<String, Channel>>>;

/// Where a channel's streams and polls receive events.
#[derive(Clone)]
struct Channel {
    streams: broadcast::Sender<Arc<str>>,
    /// The last event, and how many there were.
    last: watch::Sender<(u64, Arc<str>)>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let routes = Router::new()
        .route("/{channel}", get(subscribe).post(publish))
        .route("/poll/{channel}", get(poll))
        .with_state(Channels::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|io| {
        let _ = io.set_nodelay(true);
    });
    axum::serve(listener, routes).await
}

async fn subscribe(
    State(channels): State<Channels>,
    Path(channel): Path<String>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = BroadcastStream::new(named(&channels, channel).streams.subscribe());
    // A receiver that fell behind by more than the ring holds skips on: such events are lost.
    let events = events.filter_map(Result::ok).map(|data| Ok(Event::default().data(&*data)));
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn publish(
    State(channels): State<Channels>,
    Path(channel): Path<String>,
    body: String,
) -> StatusCode {
    let channel = named(&channels, channel);
    let body: Arc<str> = body.into();
    channel.last.send_modify(|(events, last)| (*events, *last) = (*events + 1, Arc::clone(&body)));
    // It fails when there is no receiver, which is fine.
    let _ = channel.streams.send(body);
    StatusCode::NO_CONTENT
}

async fn poll(
    State(channels): State<Channels>,
    Path(channel): Path<String>,
    head: HeaderMap,
) -> (StatusCode, [(&'static str, String); 1], String) {
    let mut last = named(&channels, channel).last.subscribe();
    let id = head.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = id.unwrap_or(last.borrow().0);
    let next = last.wait_for(|(events, _)| *events > after);
    match tokio::time::timeout(POLL_TIMEOUT, next).await {
        Ok(Ok(next)) => {
            (StatusCode::OK, [("last-event-id", next.0.to_string())], next.1.to_string())
        }
        _ => (StatusCode::NO_CONTENT, [("last-event-id", after.to_string())], String::new()),
    }
}

fn named(channels: &Channels, name: String) -> Channel {
    let mut channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
    let channel = channels.entry(name).or_insert_with(|| Channel {
        streams: broadcast::channel(RING_EVENTS).0,
        last: watch::channel((0, "".into())).0,
    });
    channel.clone()
}

/// As much history as the hub keeps of a channel.
const RING_EVENTS: usize = 1_024;
const POLL_TIMEOUT: Duration = Duration::from_secs(60);
