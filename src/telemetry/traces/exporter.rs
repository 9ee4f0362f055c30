//! Exports spans to a collector by OTLP/HTTP, one request at a time, on a task of its own.
//!
//! A collector that is away, slow or busy delays nothing but exports: spans wait in a bounded
//! queue, and what does not fit there is dropped. A batch is tried again after a failure that may
//! pass (OTLP, "OTLP/HTTP Response"), for as long as [`RETRY_MAX`].

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    collector::{CollectorHeaders, CollectorUrl},
    otlp::{Resource, encode, rejected_spans},
    span_queue::SpanQueue,
    tracer::Tracer,
};
use crate::{
    auth::{HttpsClient, https_client},
    telemetry::{LogThrottle, with_causes},
};

/// Where and how spans are exported.
#[derive(Debug)]
pub struct ExportOptions {
    /// The collector.
    pub url: CollectorUrl,
    /// Fields of each request, beside those of the protocol.
    pub headers: CollectorHeaders,
    /// What the hub is called there.
    pub service: String,
    /// The name of its machine or node.
    pub host: String,
    /// The longest time that the collector may take to answer.
    pub timeout: Duration,
}

/// The task that exports.
#[derive(Debug)]
pub struct Exporter {
    task: JoinHandle<()>,
    end: watch::Sender<bool>,
    spans: Arc<SpanQueue>,
}

impl Exporter {
    /// Starts it.
    ///
    /// # Errors
    /// The system's root certificates cannot be read, for a collector with `https`.
    pub fn start(tracer: &Tracer, options: ExportOptions) -> io::Result<Self> {
        let (end, ending) = watch::channel(false);
        let run = Run {
            client: https_client(options.url.is_plain(), options.timeout, POOL_IDLE_TIMEOUT)?,
            resource: Resource {
                service: options.service.clone(),
                instance: format!("{:016x}", fastrand::u64(..)),
                host: options.host.clone(),
            },
            options,
            spans: Arc::clone(&tracer.spans),
            ending,
            throttle: LogThrottle::default(),
            is_failing: false,
        };
        Ok(Self { task: tokio::spawn(run.run()), end, spans: Arc::clone(&tracer.spans) })
    }

    /// Exports what waits, for no longer than `limit`, and ends. What is left then is dropped.
    pub async fn finish(self, limit: Duration) {
        let Self { mut task, end, spans } = self;
        let before = spans.metrics.dropped.total(["end"]);
        end.send_replace(true);
        if timeout(limit, &mut task).await.is_err() {
            task.abort();
            // Its batch is counted when the task is dropped.
            let _ = task.await;
        }
        loop {
            match spans.take_batch().len() {
                0 => break,
                left => spans.metrics.drop_spans("end", left as u64),
            }
        }
        let left = spans.metrics.dropped.total(["end"]) - before;
        if left > 0 {
            tracing::warn!(spans = left, "the collector did not take all spans before the end");
        }
    }
}

/// The state of the task.
struct Run {
    client: HttpsClient<Full<Bytes>>,
    options: ExportOptions,
    resource: Resource,
    spans: Arc<SpanQueue>,
    ending: watch::Receiver<bool>,
    throttle: LogThrottle,
    /// Whether the latest request failed.
    is_failing: bool,
}

/// The spans of an export, which are dropped unless they are delivered.
struct Batch<'a> {
    spans: &'a SpanQueue,
    count: u64,
    /// Why they are dropped, if they are.
    reason: &'static str,
}

/// Why a request did not deliver its spans.
enum Failure {
    /// A temporary failure, with the wait that the collector asked for.
    Passing(String, Option<Duration>),
    /// A permanent failure: the collector rejects this request.
    Lasting(String),
}

impl Run {
    async fn run(mut self) {
        while !*self.ending.borrow() {
            let mut ending = self.ending.clone();
            tokio::select! {
                () = self.spans.filled() => {}
                () = sleep(EXPORT_EVERY) => {}
                ends = ending.wait_for(|ends| *ends) => {
                    // Its owner was dropped without an end, and the spans that are left go with it.
                    if ends.is_err() {
                        return;
                    }
                }
            }
            self.export_all().await;
        }
        // Spans that were recorded during the last export.
        self.export_all().await;
    }

    async fn export_all(&mut self) {
        loop {
            let spans = self.spans.take_batch();
            if spans.is_empty() {
                return;
            }
            let body = encode(&self.resource, &spans);
            let count = spans.len() as u64;
            drop(spans);
            self.deliver(body, count).await;
        }
    }

    /// Delivers a batch, with further attempts after failures that may pass. The hub's end leaves
    /// one more.
    async fn deliver(&mut self, body: Bytes, count: u64) {
        let queue = Arc::clone(&self.spans);
        let mut batch = Batch { spans: &queue, count, reason: "end" };
        let began = Instant::now();
        let mut backoff = BACKOFF_MIN;
        loop {
            let was_ending = *self.ending.borrow();
            let failure = match self.attempt(body.clone()).await {
                Ok((rejected, message)) => {
                    if rejected > 0 {
                        let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
                        self.warn("the collector rejected spans", &message);
                    }
                    self.note_success();
                    return batch.delivered(rejected);
                }
                Err(failure) => failure,
            };
            self.spans.metrics.failures.inc();
            self.is_failing = true;
            let wait = match failure {
                Failure::Lasting(why) => {
                    batch.reason = "rejected";
                    return self.warn("the collector refused spans, which are dropped", &why);
                }
                Failure::Passing(why, wait) => {
                    self.warn("spans cannot be exported for now", &why);
                    wait.unwrap_or_else(|| backoff.mul_f64(0.5 + fastrand::f64())).min(WAIT_MAX)
                }
            };
            backoff = (backoff * 2).min(BACKOFF_MAX);
            if was_ending {
                return;
            }
            if began.elapsed() + wait > RETRY_MAX {
                batch.reason = "failed";
                return;
            }
            tokio::select! {
                () = sleep(wait) => {}
                ends = self.ending.wait_for(|ends| *ends) => {
                    if ends.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// One request: how many spans the collector rejected of those it was sent, and why.
    async fn attempt(&self, body: Bytes) -> Result<(u64, String), Failure> {
        let mut request = Request::post(self.options.url.uri().clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("visnyk/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .expect("the URL was checked");
        let headers = self.options.headers.0.iter();
        request.headers_mut().extend(headers.map(|(name, value)| (name.clone(), value.clone())));
        let exchange = async {
            let response = self.client.request(request).await;
            answered(response.map_err(|error| Failure::Passing(with_causes(&error), None))?).await
        };
        match timeout(self.options.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Passing("it did not answer in time".to_owned(), None)),
        }
    }

    fn note_success(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("spans are exported again");
        }
    }

    /// Once a second at most.
    fn warn(&self, what: &'static str, why: &str) {
        if let Some(times) = self.throttle.due() {
            let collector = &self.options.url;
            tracing::warn!(%collector, why, times, "{what}");
        }
    }
}

impl Batch<'_> {
    fn delivered(mut self, rejected: u64) {
        let rejected = rejected.min(self.count);
        self.spans.metrics.exported.inc_by(self.count - rejected);
        (self.count, self.reason) = (rejected, "rejected");
    }
}

/// Counts what is dropped, also if the task is aborted.
impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.spans.metrics.drop_spans(self.reason, self.count);
    }
}

/// What an answer means.
async fn answered(response: Response<Incoming>) -> Result<(u64, String), Failure> {
    let (head, body) = response.into_parts();
    let status = head.status;
    // Read to the end, so that the connection can be used again.
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    if status.is_success() {
        return Ok(body.map_or((0, String::new()), |body| rejected_spans(&body.to_bytes())));
    }
    let why = format!("it answered with status {}", status.as_u16());
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Err(Failure::Passing(why, retry_after(&head.headers))),
        _ => Err(Failure::Lasting(why)),
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()
}

/// Characters of a collector's message in the hub's log.
const MESSAGE_CHARS_MAX: usize = 256;
/// Longer than the time between two exports.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two exports of less than a whole batch.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// How long a batch is tried again.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest wait that a collector can ask for.
const WAIT_MAX: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
