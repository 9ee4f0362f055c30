//! The usual axum way to broadcast Server-Sent Events: a `tokio::sync::broadcast` channel for each
//! channel, a `Sse` response with keep-alive over a `BroadcastStream` for each subscriber.
//!
//! `GET /CHANNEL` is a stream, `POST /CHANNEL` publishes its body. Port 0 of loopback; the address
//! goes to stderr. Two worker threads.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};

type Channels = Arc<Mutex<HashMap<String, broadcast::Sender<Arc<str>>>>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let routes = Router::new()
        .route("/{channel}", get(subscribe).post(publish))
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
    let events = BroadcastStream::new(sender(&channels, channel).subscribe());
    // A receiver that fell behind by more than the ring holds skips on: such events are lost.
    let events = events.filter_map(Result::ok).map(|data| Ok(Event::default().data(&*data)));
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn publish(
    State(channels): State<Channels>,
    Path(channel): Path<String>,
    body: String,
) -> StatusCode {
    // It fails when nobody listens, which is no fault.
    let _ = sender(&channels, channel).send(body.into());
    StatusCode::NO_CONTENT
}

fn sender(channels: &Channels, channel: String) -> broadcast::Sender<Arc<str>> {
    let mut channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
    channels.entry(channel).or_insert_with(|| broadcast::channel(RING_EVENTS).0).clone()
}

/// As much history as the hub keeps of a channel.
const RING_EVENTS: usize = 1_024;
