//! The real binary, with settings, and what one may ask of it.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::{
    Answer, Block, Exchange, Hub, HubCommand, Publisher, SseClient, SseRequest, percent_encode,
};

use super::PATIENCE;

/// A running hub; killed when it is dropped.
pub(crate) struct TestHub(Hub);

impl TestHub {
    /// Starts one on a free port. Settings by the end of their variable, `VISNYK_` left out.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with(Self::command(settings)).await
    }

    /// Starts one where another was before.
    pub(crate) async fn start_at(address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        Self::start_with(Self::command(settings).listen(address)).await
    }

    /// Starts one with further environment variables.
    pub(crate) async fn start_with_env(env: &[(&str, &str)]) -> Self {
        let command =
            env.iter().fold(Self::command(&[]), |command, (name, value)| command.env(name, value));
        Self::start_with(command).await
    }

    /// The process itself.
    pub(crate) fn into_inner(self) -> Hub {
        self.0
    }

    fn command(settings: &[(&str, &str)]) -> HubCommand {
        HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).settings(settings)
    }

    /// Starts one by a command.
    pub(crate) async fn start_with(command: HubCommand) -> Self {
        Self(command.start().await.expect("the hub starts"))
    }

    /// Sends one request on a connection of its own and reads the answer.
    pub(crate) async fn request(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let answer = Exchange::new(self.address())
            .request(method, target, fields, body.as_bytes(), PATIENCE)
            .await;
        answer.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// Gets something; again if the shard that was to answer is struck down.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut exchange = Exchange::new(self.address());
            match exchange.request("GET", target, &[], b"", PATIENCE).await {
                Ok(answer) => return answer,
                Err(error) if Instant::now() >= deadline => panic!("GET {target}: {error}"),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Publishes one event and gives its position.
    pub(crate) async fn publish(&self, channel: &str, data: &str) -> String {
        let acked = Publisher::new(self.address()).publish_acked(channel, data).await;
        acked.unwrap_or_else(|error| panic!("publish to {channel}: {error}"))
    }

    /// Publishes several events to one channel at once and gives the position of the last.
    pub(crate) async fn publish_all(&self, channel: &str, data: &[String]) -> String {
        let lines = ndjson(data.iter().map(|data| (None, data.as_str())));
        let answer = Publisher::new(self.address()).publish_batch(channel, &lines, None).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 201, "{}", answer.body);
        answer.json()["last_id"].as_str().expect("a position").to_owned()
    }

    /// What is retained of channels after a position, by a poll that does not wait.
    pub(crate) async fn poll_now(&self, query: &str, from: &str) -> Value {
        let target = format!("/v1/poll?timeout=0&limit=1000&{query}");
        let answer = self.request("GET", &target, &[("Last-Event-ID", from)], "").await;
        match answer.status() {
            200 => answer.json(),
            204 => Value::Null,
            status => panic!("{target}: {status} {}", answer.body),
        }
    }

    /// The data of what is retained of channels after a position.
    pub(crate) async fn retained(&self, query: &str, from: &str) -> Vec<String> {
        let answer = self.poll_now(query, from).await;
        let events = answer["events"].as_array().into_iter().flatten();
        events.map(|event| event["data"].as_str().expect("data").to_owned()).collect()
    }

    /// Opens a stream that is not refused.
    pub(crate) async fn open(&self, request: &SseRequest) -> SseClient {
        let client = SseClient::connect(self.address(), request).await.expect("a stream");
        assert_eq!(client.head().status, 200);
        client
    }

    /// Opens a stream of channels and reads its first block; it starts at a position.
    pub(crate) async fn stream(&self, query: &str, from: &str) -> SseClient {
        let request = SseRequest::new(&format!("/v1/events?{query}")).from(from);
        let mut client = self.open(&request).await;
        let first = client.next_block(PATIENCE).await.expect("a block").expect("a first block");
        // Before a gap it has no id.
        let has_id = first.id.is_some() || from != "now";
        assert!(first.retry_ms.is_some() && has_id, "{first:?}");
        client
    }

    /// What the info route says of a channel; null without one.
    pub(crate) async fn channel(&self, name: &str) -> Value {
        let answer = self.get(&format!("/v1/channels/{}", percent_encode(name))).await;
        if answer.status() == 404 { Value::Null } else { answer.json() }
    }

    /// Waits until the info route says something of a channel.
    pub(crate) async fn wait_for_channel(&self, name: &str, says: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = self.channel(name).await;
            if says(&info) {
                return;
            }
            assert!(Instant::now() < deadline, "channel {name} stays {info}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// One metric, named as in the exposition with its labels; 0 if it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or_default()
    }

    /// Waits until a metric is as wanted, and gives it.
    pub(crate) async fn wait_for_metric(&self, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name).await;
            if wanted(value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{name} stays {value}\n{}", self.stderr());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Plants a fault; again if the shard that was to plant it is struck down by another one.
    pub(crate) async fn plant(&self, fault: &str) {
        let planted = || self.stderr().matches("planting a fault").count();
        let before = planted();
        let (target, deadline) = (format!("/faults/{fault}"), Instant::now() + PATIENCE);
        loop {
            let mut exchange = Exchange::new(self.address());
            let answered = match exchange.request("POST", &target, &[], b"", PATIENCE).await {
                Ok(answer) => {
                    assert_eq!(answer.status(), 202, "{fault}: {}", answer.body);
                    true
                }
                // It may have been planted all the same, and have struck before the answer was
                // out.
                Err(_) => false,
            };
            let again = Instant::now() + Duration::from_millis(200);
            while answered || Instant::now() < again {
                if planted() > before {
                    return;
                }
                assert!(Instant::now() < deadline, "{fault} is not planted\n{}", self.stderr());
                sleep(LOOK_AGAIN).await;
            }
        }
    }
}

impl From<Hub> for TestHub {
    fn from(hub: Hub) -> Self {
        Self(hub)
    }
}

impl Deref for TestHub {
    type Target = Hub;

    fn deref(&self) -> &Hub {
        &self.0
    }
}

impl DerefMut for TestHub {
    fn deref_mut(&mut self) -> &mut Hub {
        &mut self.0
    }
}

/// Envelopes, a line each; with their channel if they name one.
pub(crate) fn ndjson<'a>(events: impl Iterator<Item = (Option<&'a str>, &'a str)>) -> String {
    let line = |(channel, data): (Option<&str>, &str)| match channel {
        None => format!("{}\n", serde_json::json!({ "data": data })),
        Some(channel) => format!("{}\n", serde_json::json!({ "data": data, "channel": channel })),
    };
    events.map(line).collect()
}

/// The data of the events of a stream, as many as wanted.
pub(crate) async fn data_of(client: &mut SseClient, events: usize) -> Vec<String> {
    let mut received = Vec::new();
    while received.len() < events {
        let block = client.next_event(PATIENCE).await;
        let block = block.unwrap_or_else(|error| panic!("{error} after {received:?}"));
        let Block { event, data, .. } =
            block.unwrap_or_else(|| panic!("the stream ends after {received:?}"));
        assert_eq!(event, None, "{data:?}");
        received.extend(data);
    }
    received
}

/// Between two polls for something that is not announced.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
