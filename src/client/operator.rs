//! Inspects a running hub, and closes its channels and connections, by single requests.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Method, header::ACCEPT};
use http_body_util::Full;
use serde_json::Value;
use thiserror::Error;

use super::certificate::CertificateRejected;
use super::endpoint::{Endpoint, percent_encode};
use super::failure::Failure;
use super::link::{ExchangeError, Link, read_body};
use super::problem::Problem;

/// Asks one hub about its state. Each call is one request, which is not repeated. It returns the
/// hub's JSON as docs/api.md describes it, with the members that a later hub adds.
pub struct Operator {
    link: Link,
    answer_timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperateError {
    /// The hub refused, and would refuse again.
    #[error("the hub refused: {0}")]
    Refused(Problem),
    /// The hub's certificate is not accepted.
    #[error(transparent)]
    Certificate(#[from] CertificateRejected),
    /// The connection failed, or the hub does not answer for now.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The answer is not that of a hub.
    #[error("the answer is not that of a hub")]
    NotAHub,
}

impl Operator {
    /// Waits for each answer for `answer_timeout`.
    pub fn new(endpoint: Endpoint, answer_timeout: Duration) -> Self {
        Self { link: Link::new(endpoint), answer_timeout }
    }

    /// The hub at one look.
    pub async fn status(&self) -> Result<Value, OperateError> {
        self.get("/v1/status", &[]).await
    }

    /// A page of channels, with the parameters of `GET /v1/channels`.
    pub async fn channels(&self, query: &[(&str, &str)]) -> Result<Value, OperateError> {
        self.get("/v1/channels", query).await
    }

    /// One channel.
    pub async fn channel(&self, name: &str) -> Result<Value, OperateError> {
        self.get(&format!("/v1/channels/{}", percent_encode(name)), &[]).await
    }

    /// Closes a channel.
    pub async fn close_channel(&self, name: &str) -> Result<(), OperateError> {
        self.delete(&format!("/v1/channels/{}", percent_encode(name))).await
    }

    /// A page of connections, with the parameters of `GET /v1/connections`.
    pub async fn connections(&self, query: &[(&str, &str)]) -> Result<Value, OperateError> {
        self.get("/v1/connections", query).await
    }

    /// One connection, as it is or as it ended.
    pub async fn connection(&self, id: &str) -> Result<Value, OperateError> {
        self.get(&format!("/v1/connections/{}", percent_encode(id)), &[]).await
    }

    /// Ends a connection.
    pub async fn end_connection(&self, id: &str) -> Result<(), OperateError> {
        self.delete(&format!("/v1/connections/{}", percent_encode(id))).await
    }

    /// Has the hub read its settings again.
    pub async fn reload(&self) -> Result<Value, OperateError> {
        let body = self.exchange(Method::POST, "/v1/reload", &[]).await?;
        object(&body)
    }

    /// Whether the process answers.
    pub async fn is_alive(&self) -> Result<(), OperateError> {
        self.exchange(Method::GET, "/healthz", &[]).await.map(drop)
    }

    /// Whether new clients may be sent to the hub.
    pub async fn is_ready(&self) -> Result<(), OperateError> {
        self.exchange(Method::GET, "/readyz", &[]).await.map(drop)
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, OperateError> {
        let body = self.exchange(Method::GET, path, query).await?;
        object(&body)
    }

    async fn delete(&self, path: &str) -> Result<(), OperateError> {
        self.exchange(Method::DELETE, path, &[]).await.map(drop)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Bytes, OperateError> {
        let request = self.link.request(method, path, query).header(ACCEPT, "application/json");
        let request = request.body(Full::default());
        let request = request.expect("the base URL was checked and the rest is encoded");
        let response = self.link.send(request, self.answer_timeout).await?;
        Ok(read_body(response, ANSWER_BYTES_MAX, self.answer_timeout).await?)
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("link", &self.link).finish_non_exhaustive()
    }
}

impl From<ExchangeError> for OperateError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Failed(failure) => Self::Failed(failure),
            ExchangeError::Refused(problem) => Self::Refused(problem),
            ExchangeError::Certificate(rejected) => Self::Certificate(rejected),
            ExchangeError::TooLarge(_) => Self::NotAHub,
        }
    }
}

fn object(body: &[u8]) -> Result<Value, OperateError> {
    let json: Value = serde_json::from_slice(body).map_err(|_| OperateError::NotAHub)?;
    if json.is_object() { Ok(json) } else { Err(OperateError::NotAHub) }
}

/// A page of a thousand connections with 16 long names each is 5 MiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
