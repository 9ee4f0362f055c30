//! What the hub counts, in Prometheus terms.
//!
//! Fan-out adds once per round, not once per delivery.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{BackendMetrics, DiskMetrics};

/// All metrics of one hub.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Events accepted.
    pub events_published: Counter,
    /// Frame bytes accepted.
    pub bytes_published: Counter,
    /// Publishes refused, by reason.
    pub publishes_refused: Family<Reason, Counter>,
    /// Publishes whose outcome was not known in time.
    pub publishes_unknown: Counter,
    /// Publishes answered from memory because of their idempotency key.
    pub publishes_replayed: Counter,
    /// Publishes that waited because a shard throttled one of their channels.
    pub publishes_throttled: Counter,
    /// Events handed to connections (an event to a thousand connections is a thousand).
    pub deliveries: Counter,
    /// Sends to connections; a send carries one event or a batch.
    pub sends: Counter,
    /// Connections that fell behind the head (refused or partial writes).
    pub fell_behind: Counter,
    /// Gaps sent to clients, by reason.
    pub gaps: Family<Reason, Counter>,
    /// Streams open.
    pub streams: Gauge,
    /// Polls waiting.
    pub pollers: Gauge,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Connections ended, by reason.
    pub connections_closed: Family<Reason, Counter>,
    /// Subscriptions and polls refused, by reason.
    pub subscriptions_refused: Family<Reason, Counter>,
    /// Requests refused because they are past a bound of their own, by which.
    pub requests_refused: Family<Reason, Counter>,
    /// Requests of pages of origins that CORS does not name.
    pub foreign_origin_requests: Counter,
    /// Tokens refused, by reason.
    pub tokens_refused: Family<Reason, Counter>,
    /// Connections of the HTTP server: on which requests are read and answered.
    pub http_connections: Gauge,
    /// Connections refused before the HTTP server saw them, by reason.
    pub sockets_refused: Family<Reason, Counter>,
    /// HTTP/2 connections.
    pub http2_connections: Gauge,
    /// HTTP/2 connections that the hub closed for what their clients did, by reason.
    pub http2_closed: Family<Reason, Counter>,
    /// TLS handshakes that failed, by reason.
    pub tls_handshakes_failed: Family<Reason, Counter>,
    /// Certificates reloaded.
    pub tls_reloads: Counter,
    /// Certificates that could not be taken.
    pub tls_reloads_failed: Counter,
    /// When the certificate in use expires, in seconds since 1970.
    pub tls_certificate_expires: Gauge,
    /// Answers whose clients did not read them for too long.
    pub answers_stalled: Counter,
    /// Large answers refused because those under way fill their room.
    pub answers_refused: Counter,
    /// Bytes of large answers under way.
    pub answer_bytes: Gauge,
    /// Bytes of request bodies held.
    pub body_bytes: Gauge,
    /// Bytes ready for connections whose sockets have not taken them.
    pub unsent_bytes: Gauge,
    /// Actors restarted by their supervisors, by kind.
    pub restarts: Family<Reason, Counter>,
    /// Channels in the directory.
    pub channels: Gauge,
    /// Bytes in all histories.
    pub history_bytes: Gauge,
    /// Publish permits not in use.
    pub permits_free: Gauge,
    /// Channels whose publishers wait for a shard.
    pub channels_throttled: Gauge,
    /// Of the log on disk.
    pub disk: Arc<DiskMetrics>,
    /// Of the log that hubs share.
    pub backend: Arc<BackendMetrics>,
    #[cfg(feature = "jemalloc")]
    heap: super::heap::Heap,
}

/// One label: why, or which kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// The word.
    pub reason: &'static str,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("visnyk"),
            events_published: Counter::default(),
            bytes_published: Counter::default(),
            publishes_refused: Family::default(),
            publishes_unknown: Counter::default(),
            publishes_replayed: Counter::default(),
            publishes_throttled: Counter::default(),
            deliveries: Counter::default(),
            sends: Counter::default(),
            fell_behind: Counter::default(),
            gaps: Family::default(),
            streams: Gauge::default(),
            pollers: Gauge::default(),
            connections_opened: Counter::default(),
            connections_closed: Family::default(),
            subscriptions_refused: Family::default(),
            requests_refused: Family::default(),
            foreign_origin_requests: Counter::default(),
            tokens_refused: Family::default(),
            http_connections: Gauge::default(),
            sockets_refused: Family::default(),
            http2_connections: Gauge::default(),
            http2_closed: Family::default(),
            tls_handshakes_failed: Family::default(),
            tls_reloads: Counter::default(),
            tls_reloads_failed: Counter::default(),
            tls_certificate_expires: Gauge::default(),
            answers_stalled: Counter::default(),
            answers_refused: Counter::default(),
            answer_bytes: Gauge::default(),
            body_bytes: Gauge::default(),
            unsent_bytes: Gauge::default(),
            restarts: Family::default(),
            channels: Gauge::default(),
            history_bytes: Gauge::default(),
            permits_free: Gauge::default(),
            channels_throttled: Gauge::default(),
            disk: Arc::default(),
            backend: Arc::default(),
            #[cfg(feature = "jemalloc")]
            heap: super::heap::Heap::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    /// The counter of `family` for one reason.
    pub fn count(family: &Family<Reason, Counter>, reason: &'static str) {
        family.get_or_create(&Reason { reason }).inc();
    }

    /// The same counter, to be kept by who counts often.
    pub fn counter(family: &Family<Reason, Counter>, reason: &'static str) -> Counter {
        family.get_or_create(&Reason { reason }).clone()
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    pub fn render(&self) -> String {
        #[cfg(feature = "jemalloc")]
        self.heap.refresh();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }

    fn register(&mut self) {
        #[cfg(feature = "jemalloc")]
        self.heap.register(&mut self.registry);
        self.disk.register(&mut self.registry);
        self.backend.register(&mut self.registry);
        let r = &mut self.registry;
        r.register("events_published", "Events accepted", self.events_published.clone());
        r.register("bytes_published", "Frame bytes accepted", self.bytes_published.clone());
        r.register("publishes_refused", "Publishes refused", self.publishes_refused.clone());
        r.register(
            "publishes_unknown",
            "Publishes that were not durable in time, or whose log failed meanwhile",
            self.publishes_unknown.clone(),
        );
        r.register(
            "publishes_replayed",
            "Publishes answered again under their idempotency key",
            self.publishes_replayed.clone(),
        );
        r.register(
            "publishes_throttled",
            "Publishes that waited for a shard to send what was published before",
            self.publishes_throttled.clone(),
        );
        r.register("deliveries", "Events handed to connections", self.deliveries.clone());
        r.register("sends", "Sends to connections", self.sends.clone());
        r.register("fell_behind", "Connections that fell behind", self.fell_behind.clone());
        r.register("gaps", "Gaps sent to clients", self.gaps.clone());
        r.register("streams", "Streams open", self.streams.clone());
        r.register("pollers", "Long-polls waiting", self.pollers.clone());
        r.register("connections_opened", "Connections opened", self.connections_opened.clone());
        r.register("connections_closed", "Connections ended", self.connections_closed.clone());
        r.register(
            "subscriptions_refused",
            "Subscriptions and polls refused",
            self.subscriptions_refused.clone(),
        );
        r.register(
            "requests_refused",
            "Requests refused for being too long, too slow, or for asking for too much",
            self.requests_refused.clone(),
        );
        r.register(
            "foreign_origin_requests",
            "Requests of web pages of origins that cors_origins does not name",
            self.foreign_origin_requests.clone(),
        );
        r.register("tokens_refused", "Tokens refused", self.tokens_refused.clone());
        r.register(
            "http_connections",
            "Connections on which requests are read and answered",
            self.http_connections.clone(),
        );
        r.register(
            "sockets_refused",
            "Connections rejected before their request was served",
            self.sockets_refused.clone(),
        );
        r.register("http2_connections", "HTTP/2 connections", self.http2_connections.clone());
        r.register(
            "http2_closed",
            "HTTP/2 connections closed for what their clients did",
            self.http2_closed.clone(),
        );
        r.register(
            "tls_handshakes_failed",
            "TLS handshakes that failed",
            self.tls_handshakes_failed.clone(),
        );
        r.register("tls_reloads", "Certificates reloaded", self.tls_reloads.clone());
        r.register(
            "tls_reloads_failed",
            "Certificates that could not be reloaded; the old one stays",
            self.tls_reloads_failed.clone(),
        );
        r.register(
            "tls_certificate_expires_seconds",
            "When the certificate in use expires, since 1970; 0 without TLS",
            self.tls_certificate_expires.clone(),
        );
        r.register(
            "answers_stalled",
            "Answers whose clients did not read them",
            self.answers_stalled.clone(),
        );
        r.register(
            "answers_refused",
            "Large answers refused because the budget of answers was used up",
            self.answers_refused.clone(),
        );
        r.register("answer_bytes", "Bytes of large answers under way", self.answer_bytes.clone());
        r.register("body_bytes", "Bytes of request bodies held", self.body_bytes.clone());
        r.register(
            "unsent_bytes",
            "Bytes ready for connections whose sockets have not taken them",
            self.unsent_bytes.clone(),
        );
        r.register("restarts", "Actors restarted", self.restarts.clone());
        r.register("channels", "Channels in the directory", self.channels.clone());
        r.register("history_bytes", "Bytes in all histories", self.history_bytes.clone());
        r.register("permits_free", "Publish permits not in use", self.permits_free.clone());
        r.register(
            "channels_throttled",
            "Channels whose publishers wait for a shard",
            self.channels_throttled.clone(),
        );
        r.register(
            "log_lines_dropped",
            "Log lines of this process that stderr did not take in time",
            super::log_queue::dropped(),
        );
    }
}
