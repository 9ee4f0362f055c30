//! The hot paths that begin with an HTTP request: hyper, the router, the hub and its actors.

use std::{
    future::Future,
    mem::forget,
    pin::Pin,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::util::MapResponse;
use visnyk::{
    http::{HttpSettings, router},
    hub::Hub,
};

use crate::{load::Load, shard::PAYLOAD};

/// Publishes, one after the other on one connection, each answered before the next.
pub(crate) fn publish(load: Load) {
    with_hub(async |routes| {
        let mut io = connect(&routes);
        let request = format!(
            "POST /v1/channels/bench/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
             text/plain\r\nContent-Length: {}\r\n\r\n{PAYLOAD}",
            PAYLOAD.len()
        );
        for _ in 0..load.rounds {
            io.write_all(request.as_bytes()).await.expect("written");
            let answer = read_until(&mut io, b"}").await;
            assert!(answer.starts_with(b"HTTP/1.1 201 "), "it is published");
        }
        forget(io);
    });
}

/// Streams, each on a connection of its own, up to the end of the first block and its chunk.
pub(crate) fn subscribe(load: Load) {
    with_hub(async |routes| {
        for _ in 0..load.rounds {
            let mut io = connect(&routes);
            let request = "GET /v1/channels/bench/events HTTP/1.1\r\nHost: localhost\r\nAccept: \
                           text/event-stream\r\n\r\n";
            io.write_all(request.as_bytes()).await.expect("written");
            let answer = read_until(&mut io, b"\n\n\r\n").await;
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "it is a stream");
            forget(io);
        }
    });
}

/// Runs `client` beside a hub with one shard.
fn with_hub<F: Future<Output = ()>>(client: impl FnOnce(Router) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        client(router(hub, HttpSettings::default())).await;
    });
    forget(runtime);
}

/// A connection in memory, served as any server that embeds the hub does.
fn connect(routes: &Router) -> DuplexStream {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let waited = |response: Response| response.map(|body| WaitedBody { body, has_begun: false });
    let service = TowerToHyperService::new(MapResponse::new(routes.clone(), waited));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(connection);
    client
}

/// A body that has its first bytes when it is asked for them. Those of a stream come from the
/// shard's thread, and whether that is first is chance. If it is not, the runtime sleeps and polls
/// the connection once more, which takes a tenth of all instructions: so the thread sleeps here
/// instead.
struct WaitedBody {
    body: Body,
    has_begun: bool,
}

impl HttpBody for WaitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.has_begun {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        self.has_begun = true;
        loop {
            // First, so that a look in vain, which is counted too, is rare.
            thread::sleep(SHARD_WAIT);
            let mut not_woken = Context::from_waker(Waker::noop());
            if let Poll::Ready(first) = Pin::new(&mut self.body).poll_frame(&mut not_woken) {
                return Poll::Ready(first);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Up to a read that ends with `end`: a search through all that was read would be counted too.
async fn read_until(io: &mut DuplexStream, end: &[u8]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(PIPE_BYTES);
    while !answer.ends_with(end) {
        assert!(io.read_buf(&mut answer).await.expect("an answer") > 0, "a whole answer");
    }
    answer
}

const PIPE_BYTES: usize = 4_096;
/// Before each look for the first bytes of a stream.
const SHARD_WAIT: Duration = Duration::from_micros(500);
