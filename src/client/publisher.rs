//! Publishes across short outages without losing or repeating an event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::batch::{Batch, new_idempotency_key};
use super::certificate::CertificateRejected;
use super::endpoint::{Endpoint, percent_encode};
use super::failure::Failure;
use super::link::{ExchangeError, Link, read_body};
use super::problem::Problem;
use super::trace_context::TraceContext;

/// Publishes to one hub. Each event or batch has an idempotency key, kept through all attempts,
/// so that it is published once even if the acknowledgement of an earlier attempt was lost on
/// the way. A hub that restarts with memory history loses the keys together with the events.
pub struct Publisher {
    link: Arc<Link>,
    options: PublisherOptions,
    on_retry: Arc<OnRetry>,
    trace: Option<TraceContext>,
}

/// How patient a publisher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublisherOptions {
    /// How long failed attempts are repeated, 30 s by default. Hubs remember an idempotency key
    /// for 5 minutes, so this plus `answer_timeout` should stay below.
    pub retry_for: Duration,
    /// How long one attempt may wait for its answer, 30 s by default.
    pub answer_timeout: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self { retry_for: Duration::from_secs(30), answer_timeout: Duration::from_secs(30) }
    }
}

/// The acknowledgement of one event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Published {
    /// The position right after the event.
    pub id: String,
    /// The channel it is in.
    pub channel: String,
}

/// The acknowledgement of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Accepted {
    /// How many events it had.
    pub accepted: u64,
    /// The position right after its first event.
    pub first_id: String,
    /// The position right after its last event.
    pub last_id: String,
    /// An earlier attempt had been accepted, and this is its acknowledgement.
    #[serde(skip)]
    pub replayed: bool,
}

/// Why an event or batch was not published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub refused it for good. Nothing of it was published.
    #[error("the hub refused: {0}")]
    Refused(Problem),
    /// The hub's certificate is not accepted. Nothing of it was published.
    #[error(transparent)]
    Certificate(#[from] CertificateRejected),
    /// All attempts in the time set failed. It is not known whether it was published.
    #[error("gave up after {:.1} s", .waited.as_secs_f64())]
    GaveUp {
        /// How long it was tried.
        waited: Duration,
        /// Why the last attempt failed.
        source: Failure,
    },
    /// The answer is not an acknowledgement: this is not a hub. It is not known whether it was
    /// published.
    #[error("the answer is not an acknowledgement")]
    NoAcknowledgement,
}

impl Publisher {
    /// A publisher; connections are made when they are needed.
    pub fn new(endpoint: Endpoint, options: PublisherOptions) -> Self {
        let link = Arc::new(Link::new(endpoint));
        Self { link, options, on_retry: Arc::new(|_, _| {}), trace: None }
    }

    /// Calls `report` with each failed attempt that will be repeated, and the wait before that.
    pub fn on_retry(mut self, report: impl Fn(&Failure, Duration) + Send + Sync + 'static) -> Self {
        self.on_retry = Arc::new(report);
        self
    }

    /// A publisher over the same connections whose publishes belong to a trace of the program: it
    /// sends `traceparent` and `tracestate` with each attempt.
    pub fn in_trace(&self, context: TraceContext) -> Self {
        Self {
            link: Arc::clone(&self.link),
            options: self.options,
            on_retry: Arc::clone(&self.on_retry),
            trace: Some(context),
        }
    }

    /// Publishes one event of type `event_type`, or `message` without one, and returns once the hub
    /// has acknowledged it. Fails when the hub refuses it or [`PublisherOptions::retry_for`] is
    /// over. Cancelled, it may or may not have been published.
    pub async fn publish(
        &self,
        channel: &str,
        data: impl Into<Bytes>,
        event_type: Option<&str>,
    ) -> Result<Published, PublishError> {
        let query: Vec<_> = event_type.map(|event_type| ("type", event_type)).into_iter().collect();
        let post = Post {
            path: events_path(channel),
            query: &query,
            content_type: "text/plain; charset=utf-8",
            idempotency_key: &new_idempotency_key(),
            body: data.into(),
        };
        self.deliver(post).await.map(|(published, _)| published)
    }

    /// Publishes a batch as a whole. Fails as [`publish`](Self::publish) does. Cancelled, it may or
    /// may not have been published, but never a part of it.
    pub async fn publish_batch(&self, batch: Batch) -> Result<Accepted, PublishError> {
        let key = batch.idempotency_key().to_owned();
        let post = Post {
            path: batch.channel().map_or_else(|| "/v1/events".to_owned(), events_path),
            query: &[],
            content_type: "application/x-ndjson",
            idempotency_key: &key,
            body: batch.into_body(),
        };
        let (accepted, headers): (Accepted, _) = self.deliver(post).await?;
        Ok(Accepted { replayed: headers.contains_key("idempotent-replayed"), ..accepted })
    }

    async fn deliver<A: DeserializeOwned>(
        &self,
        post: Post<'_>,
    ) -> Result<(A, HeaderMap), PublishError> {
        let begun = Instant::now();
        let mut backoff = Backoff::new(Rng::new());
        loop {
            let failure = match self.attempt(&post).await {
                Ok((body, headers)) => {
                    let acknowledgement = serde_json::from_slice(&body)
                        .map_err(|_| PublishError::NoAcknowledgement)?;
                    return Ok((acknowledgement, headers));
                }
                Err(ExchangeError::Failed(failure)) => failure,
                Err(ExchangeError::Refused(problem)) => return Err(PublishError::Refused(problem)),
                Err(ExchangeError::Certificate(rejected)) => return Err(rejected.into()),
                Err(ExchangeError::TooLarge(_)) => return Err(PublishError::NoAcknowledgement),
            };
            let wait = backoff.next(RETRY_BASE, failure.retry_after());
            let waited = begun.elapsed();
            if waited + wait > self.options.retry_for {
                return Err(PublishError::GaveUp { waited, source: failure });
            }
            (self.on_retry)(&failure, wait);
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, post: &Post<'_>) -> Result<(Bytes, HeaderMap), ExchangeError> {
        let patience = self.options.answer_timeout;
        let mut request = post.to_request(&self.link);
        if let Some(trace) = &self.trace {
            trace.mark(request.headers_mut());
        }
        let mut response = self.link.send(request, patience).await?;
        let headers = std::mem::take(response.headers_mut());
        let body = read_body(response, ACKNOWLEDGEMENT_BYTES_MAX, patience).await?;
        Ok((body, headers))
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { link, options, on_retry: _, trace } = self;
        let mut fields = f.debug_struct("Publisher");
        fields.field("link", link).field("options", options).field("trace", trace).finish()
    }
}

type OnRetry = dyn Fn(&Failure, Duration) + Send + Sync;

/// What every attempt sends.
struct Post<'a> {
    path: String,
    query: &'a [(&'a str, &'a str)],
    content_type: &'static str,
    idempotency_key: &'a str,
    body: Bytes,
}

impl Post<'_> {
    fn to_request(&self, link: &Link) -> Request<Full<Bytes>> {
        link.request(Method::POST, &self.path, self.query)
            .header(CONTENT_TYPE, self.content_type)
            .header("idempotency-key", self.idempotency_key)
            .body(Full::new(self.body.clone()))
            .expect("the base URL was checked and the rest is encoded")
    }
}

fn events_path(channel: &str) -> String {
    format!("/v1/channels/{}/events", percent_encode(channel))
}

/// The first wait after a failure, unless the hub names one.
const RETRY_BASE: Duration = Duration::from_millis(250);
const ACKNOWLEDGEMENT_BYTES_MAX: usize = 64 * 1024;
