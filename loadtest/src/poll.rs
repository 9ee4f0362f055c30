//! Long-polling from position to position on one kept connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::exchange::{Answer, Exchange};

/// Asks, waits, asks again; it keeps its position across connections.
#[derive(Debug)]
pub struct PollClient {
    exchange: Exchange,
    target: String,
    fields: Vec<(String, String)>,
    position: Option<String>,
}

/// The answer to one poll.
#[derive(Debug, Clone)]
pub struct PollAnswer {
    /// What came.
    pub answer: Answer,
    /// Its events.
    pub events: Vec<PolledEvent>,
    /// Its gap; null if it has none.
    pub gap: Value,
}

/// An event of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the members of the envelope in docs/api.md")]
pub struct PolledEvent {
    pub id: String,
    pub channel: String,
    pub event_type: String,
    pub time: String,
    pub data: String,
}

impl PollClient {
    /// Polls `target`, such as `/v1/poll?channel=a&timeout=5`.
    pub fn new(address: SocketAddr, target: &str) -> Self {
        let (target, fields) = (target.to_owned(), Vec::new());
        Self { exchange: Exchange::new(address), target, fields, position: None }
    }

    /// Begins at a position; without one a hub answers with what is published from now on.
    pub fn from(mut self, position: &str) -> Self {
        self.position = Some(position.to_owned());
        self
    }

    /// Sends a header field with each poll.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Polls once and takes over the position of the answer. An error leaves the position, and
    /// the next poll has a new connection.
    pub async fn next(&mut self, patience: Duration) -> io::Result<PollAnswer> {
        let mut fields: Vec<_> =
            self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        fields.extend(self.position.as_deref().map(|position| ("Last-Event-ID", position)));
        let answer = self.exchange.request("GET", &self.target, &fields, b"", patience).await?;
        let json = answer.json();
        if let Some(position) = answer.head.field("last-event-id") {
            self.position = Some(position.to_owned());
        }
        let events = json["events"].as_array().into_iter().flatten().map(PolledEvent::of);
        Ok(PollAnswer { events: events.collect(), gap: json["gap"].clone(), answer })
    }

    /// Where the next poll begins.
    pub fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    /// Closes the connection with a reset.
    pub fn cut(&mut self) -> io::Result<()> {
        self.exchange.cut()
    }
}

impl PolledEvent {
    fn of(envelope: &Value) -> Self {
        let member = |name: &str| envelope[name].as_str().unwrap_or_default().to_owned();
        Self {
            id: member("id"),
            channel: member("channel"),
            event_type: member("type"),
            time: member("time"),
            data: member("data"),
        }
    }
}
