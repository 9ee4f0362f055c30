//! Readers of history on disk, over HTTP/1.1 and HTTP/2, whose hub is killed or hands its sockets
//! over in the middle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use visnyk_loadtest::HyperClient;

use super::disk_hub::DiskHub;
use crate::support::{PATIENCE, TestHub};

/// Far more than memory and the buffers of sockets hold.
const EVENTS: u64 = 12_000;
const STAGES: u64 = 5;

/// How a reader receives.
#[derive(Debug, Clone, Copy)]
struct Way {
    is_http2: bool,
    is_poll: bool,
    query: &'static str,
}

/// One client under way, which goes no further than it may.
struct Reader {
    way: Way,
    address: SocketAddr,
    position: String,
    received: Arc<AtomicU64>,
    allowed: watch::Receiver<u64>,
    connects: u64,
}

impl Reader {
    /// Reads to the end, from one connection to the next; how many there were.
    async fn run(mut self) -> u64 {
        let mut deadline = Instant::now() + 2 * PATIENCE;
        while self.received.load(Ordering::Relaxed) < EVENTS {
            let before = self.received.load(Ordering::Relaxed);
            if self.connect_and_read().await.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
            if self.received.load(Ordering::Relaxed) > before {
                deadline = Instant::now() + 2 * PATIENCE;
            }
            assert!(Instant::now() < deadline, "{:?} stands still at {before}", self.way);
        }
        self.connects
    }

    /// As far as a connection goes; nothing if it is refused, cut, or ends.
    async fn connect_and_read(&mut self) -> Option<()> {
        let socket = TcpStream::connect(self.address).await.ok()?;
        let client = match self.way.is_http2 {
            true => HyperClient::http2(socket).await.ok()?,
            false => HyperClient::http1(socket).await.ok()?,
        };
        self.connects += 1;
        match self.way.is_poll {
            true => loop {
                self.poll(&client).await?;
            },
            false => self.stream(&client).await,
        }
    }

    async fn poll(&mut self, client: &HyperClient) -> Option<()> {
        let target = format!("/v1/poll?timeout=5&limit=300&{}", self.way.query);
        let fields = [("last-event-id", self.position.as_str())];
        let answer = client.send("GET", &target, &fields, "").await.ok()?;
        if answer.status() == 503 {
            return None;
        }
        assert_eq!(answer.status(), 200, "{:?}", self.way);
        let body = timeout(PATIENCE, answer.into_body().collect()).await.ok()?.ok()?.to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(answer["gap"].is_null(), "{:?}: {answer}", self.way);
        for event in answer["events"].as_array().unwrap() {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            self.take(&text("data"), text("id")).await;
        }
        self.is_not_over()
    }

    async fn stream(&mut self, client: &HyperClient) -> Option<()> {
        let target = format!("/v1/events?{}", self.way.query);
        let fields = [("accept", "text/event-stream"), ("last-event-id", self.position.as_str())];
        let answer = client.send("GET", &target, &fields, "").await.ok()?;
        if answer.status() == 503 {
            return None;
        }
        assert_eq!(answer.status(), 200, "{:?}", self.way);
        let mut body = answer.into_body();
        let mut text = String::new();
        loop {
            while let Some((block, rest)) = text.split_once("\n\n") {
                let field = |name: &str| {
                    let value = |line: &str| Some(line.strip_prefix(name)?.to_owned());
                    block.lines().find_map(value)
                };
                assert_eq!(field("event: "), None, "{:?}: {block}", self.way);
                if let (Some(data), Some(id)) = (field("data: "), field("id: ")) {
                    self.take(&data, id).await;
                    self.is_not_over()?;
                }
                text = rest.to_owned();
            }
            text += &next_text(&mut body).await?;
        }
    }

    /// Takes the next event, once it may.
    async fn take(&mut self, data: &str, position: String) {
        let next = self.received.load(Ordering::Relaxed);
        self.allowed.wait_for(|allowed| next < *allowed).await.unwrap();
        assert_eq!(data.trim_start_matches('x').parse(), Ok(next), "{:?}", self.way);
        self.position = position;
        self.received.store(next + 1, Ordering::Relaxed);
    }

    fn is_not_over(&self) -> Option<()> {
        (self.received.load(Ordering::Relaxed) < EVENTS).then_some(())
    }
}

async fn next_text(body: &mut Incoming) -> Option<String> {
    let frame = timeout(PATIENCE, body.frame()).await.ok()??.ok()?;
    let data = frame.into_data().ok()?;
    Some(String::from_utf8(data.to_vec()).unwrap())
}

async fn publish(hub: &TestHub) {
    for first in (0..EVENTS).step_by(500) {
        let data: Vec<String> =
            (first..first + 500).map(|n| format!("{}{n}", "x".repeat(1_000))).collect();
        hub.publish_all("orders", &data).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_the_disk_get_each_event_once_over_kills_and_hand_overs() {
    let mut disk = DiskHub::new()
        .set("limits.history.total_bytes_max", "200000")
        .set("log.segment_bytes", "4194304");
    let mut hub = disk.start().await;
    publish(&hub).await;
    assert!(hub.metric("visnyk_history_bytes").await <= 200_000.0);
    let (allow, allowed) = watch::channel(0);
    let mut readers = JoinSet::new();
    let mut received = Vec::new();
    for query in ["channel=orders", "channel=**"] {
        for (is_http2, is_poll) in [(false, false), (false, true), (true, false), (true, true)] {
            received.push(Arc::<AtomicU64>::default());
            let reader = Reader {
                way: Way { is_http2, is_poll, query },
                address: hub.address(),
                position: "earliest".into(),
                received: Arc::clone(received.last().unwrap()),
                allowed: allowed.clone(),
                connects: 0,
            };
            readers.spawn(reader.run());
        }
    }
    for stage in 1..STAGES {
        let all = stage * EVENTS / STAGES;
        allow.send(all).unwrap();
        let deadline = Instant::now() + 2 * PATIENCE;
        while received.iter().any(|count| count.load(Ordering::Relaxed) < all) {
            assert!(Instant::now() < deadline, "{received:?} of {all}");
            assert!(!readers.is_empty(), "one has failed");
            sleep(Duration::from_millis(2)).await;
        }
        // All are in the middle, and go on in this moment.
        allow.send(all + EVENTS / STAGES / 2).unwrap();
        if stage % 2 == 1 {
            hub.kill().await.unwrap();
            hub = disk.start().await;
        } else {
            let next = TestHub::start_with(disk.command().arg("--take-over")).await;
            let status = hub.wait(PATIENCE).await.unwrap();
            assert_eq!(status.code(), Some(0), "{}", hub.stderr());
            hub = next;
        }
    }
    allow.send(EVENTS).unwrap();
    while let Some(connects) = readers.join_next().await {
        // One that still reads what the buffers of its socket hold may be spared one of them.
        let connects = connects.expect("a reader does not fail");
        assert!(connects > STAGES / 2, "it was connected {connects} times");
    }
}
