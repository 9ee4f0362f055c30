//! Hubs on one server, and clients of theirs.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep},
};
use visnyk_loadtest::{Answer, RedisServer, SseClient, SseRequest};

use crate::support::{PATIENCE, TestHub};

/// An address that leads to a server, and later to another. Connections stay where they are.
pub(super) struct MovingAddress {
    address: SocketAddr,
    server: watch::Sender<SocketAddr>,
}

impl MovingAddress {
    pub(super) async fn of(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (server, servers) = watch::channel(server.address());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = *servers.borrow();
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    // Either end closes it.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, server }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(super) fn lead_to(&self, server: &RedisServer) {
        self.server.send_replace(server.address());
    }
}

/// Starts a hub on a server, with further settings.
pub(super) async fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> TestHub {
    let url = server.url();
    let common = [("backend.url", url.as_str()), ("shards", "2"), ("faults", "true")];
    // What is given counts.
    let is_other = |(key, _): &(&str, &str)| settings.iter().all(|(given, _)| given != key);
    let common: Vec<_> = common.into_iter().filter(is_other).collect();
    TestHub::start(&[&common, settings].concat()).await
}

/// Publishes, and gives the answer whatever it is.
pub(super) async fn try_publish(hub: &TestHub, data: &str) -> Answer {
    hub.request("POST", "/v1/channels/a/events", &[], data).await
}

/// Publishes until that is accepted.
pub(super) async fn publish_when_back(hub: &TestHub, data: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = try_publish(hub, data).await;
        if answer.status() == 201 {
            return answer.json()["id"].as_str().expect("a position").to_owned();
        }
        assert_eq!(answer.status(), 503, "{}", answer.body);
        assert!(Instant::now() < deadline, "{}\n{}", answer.body, hub.stderr());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a stream ends, and gives the position of its client.
pub(super) async fn position_at_end(mut stream: SseClient) -> String {
    while stream.next_block(PATIENCE).await.is_ok_and(|block| block.is_some()) {}
    stream.position().expect("a position").to_owned()
}

/// Comes back with a position, and gives the gap that it is sent and the stream.
pub(super) async fn gap_of(hub: &TestHub, from: &str) -> (Value, SseClient) {
    let request = SseRequest::new("/v1/events?channel=a").from(from);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = hub.open(&request).await;
        while let Ok(Some(block)) = stream.next_block(PATIENCE).await {
            match block.event.as_deref() {
                Some("visnyk.gap") => {
                    let gap = serde_json::from_str(&block.data.expect("data")).expect("JSON");
                    return (gap, stream);
                }
                _ => assert_eq!(block.data, None, "an event before its gap"),
            }
        }
        // Refused for the time being.
        assert!(Instant::now() < deadline, "{}", hub.stderr());
        sleep(Duration::from_millis(50)).await;
    }
}

/// The epoch of a position.
pub(super) fn epoch(position: &str) -> &str {
    position.split('-').next().expect("a position")
}
