//! Publishing on one kept connection, without retries: a test wants to see each answer.

use std::io;
use std::net::SocketAddr;

use crate::exchange::{Answer, Exchange};
use crate::percent_encode;
use crate::wire::PATIENCE;

/// Publishes one request after the other.
#[derive(Debug)]
pub struct Publisher {
    exchange: Exchange,
    token: Option<String>,
}

impl Publisher {
    /// Connects with the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self { exchange: Exchange::new(address), token: None }
    }

    /// Sends `Authorization: Bearer` with each request.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(format!("Bearer {token}"));
        self
    }

    /// Publishes one event.
    pub async fn publish(&mut self, channel: &str, data: &str) -> io::Result<Answer> {
        self.post(&events(channel), &[("Content-Type", "text/plain")], data).await
    }

    /// Publishes one event and gives its id; any answer but 201 is an error.
    pub async fn publish_acked(&mut self, channel: &str, data: &str) -> io::Result<String> {
        let answer = self.publish(channel, data).await?;
        match (answer.status(), answer.json()["id"].as_str()) {
            (201, Some(id)) => Ok(id.to_owned()),
            (status, _) => Err(io::Error::other(format!("{status}: {}", answer.body))),
        }
    }

    /// Publishes NDJSON envelopes to one channel, under an idempotency key if there is one.
    pub async fn publish_batch(
        &mut self,
        channel: &str,
        ndjson: &str,
        idempotency_key: Option<&str>,
    ) -> io::Result<Answer> {
        let mut fields = vec![("Content-Type", "application/x-ndjson")];
        fields.extend(idempotency_key.map(|key| ("Idempotency-Key", key)));
        self.post(&events(channel), &fields, ndjson).await
    }

    /// Posts a body to any target.
    pub async fn post(
        &mut self,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Answer> {
        let mut fields = fields.to_vec();
        fields.extend(self.token.as_deref().map(|token| ("Authorization", token)));
        self.exchange.request("POST", target, &fields, body.as_bytes(), PATIENCE).await
    }
}

fn events(channel: &str) -> String {
    format!("/v1/channels/{}/events", percent_encode(channel))
}
