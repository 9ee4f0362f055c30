//! A client that behaves as a browser's EventSource: it gives up on any status but 200, and comes
//! back after the reconnection time it got last, from the position it read last.

use std::{net::SocketAddr, time::Duration};

use visnyk_loadtest::{SseClient, SseRequest};

use super::wire::PATIENCE;

/// What a client has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) events: Vec<String>,
    pub(crate) gaps: usize,
    pub(crate) connects: usize,
}

/// One that is connected.
#[derive(Debug)]
pub(crate) struct Client {
    proxy: SocketAddr,
    stream: SseClient,
}

impl Client {
    pub(crate) async fn connect(proxy: SocketAddr) -> Self {
        let stream = open(proxy, None).await;
        Self { proxy, stream }
    }

    /// Reads on until `last` has come.
    pub(crate) async fn follow(mut self, last: &str) -> Seen {
        let mut seen = Seen { connects: 1, ..Seen::default() };
        let mut retry = Duration::from_secs(3);
        let mut position = None;
        loop {
            let block = self.stream.next_block(PATIENCE).await.expect("whole blocks");
            position = self.stream.position().map(str::to_owned).or(position);
            let Some(block) = block else {
                tokio::time::sleep(retry).await;
                self.stream = open(self.proxy, position.as_deref()).await;
                seen.connects += 1;
                continue;
            };
            retry = block.retry_ms.map_or(retry, Duration::from_millis);
            match (block.event.as_deref(), block.data) {
                (None, Some(data)) => {
                    let is_last = data == last;
                    seen.events.push(data);
                    if is_last {
                        return seen;
                    }
                }
                (Some("visnyk.gap"), Some(_)) => seen.gaps += 1,
                (None, None) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn open(proxy: SocketAddr, position: Option<&str>) -> SseClient {
    let request = SseRequest::new("/v1/events?channel=a");
    let request = position.into_iter().fold(request, |request, position| request.from(position));
    let stream = SseClient::connect(proxy, &request).await.expect("a stream");
    assert_eq!(stream.head().status, 200, "a browser gives up");
    stream
}
