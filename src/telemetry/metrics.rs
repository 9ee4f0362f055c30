//! What the hub counts, in Prometheus terms.
//!
//! Fan-out adds once per round, not once per delivery.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    BackendMetrics, BehindMetrics, DiskMetrics, ReloadMetrics, TraceMetrics,
    histogram::Histogram,
    http_responses::HttpResponses,
    process::Process,
    reasons::{self, Reasons},
};

/// All metrics of one hub.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Events accepted.
    pub events_published: Counter,
    /// Frame bytes accepted.
    pub bytes_published: Counter,
    /// From a publish to its answer, of those that were accepted.
    pub publish_seconds: Histogram,
    /// From the append of its events to the log until they are durable and shown.
    pub append_seconds: Histogram,
    /// From when events were shown until their round on a shard was through, observed once a round.
    pub fan_out_seconds: Histogram,
    /// A pass of a shard's loop: its connections and requests wait that long for it at most. Observed
    /// once a pass.
    pub shard_turn_seconds: Histogram,
    /// Publishes refused, by reason.
    pub publishes_refused: Reasons,
    /// Publishes whose outcome was not known in time.
    pub publishes_unknown: Counter,
    /// Publishes whose future was dropped before the answer: over HTTP/2 the client has reset the request.
    pub publishes_cancelled: Counter,
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
    /// Positions of a log that began after this one.
    pub foreign_positions: Counter,
    /// Gaps sent to clients, by reason.
    pub gaps: Reasons,
    /// Streams open.
    pub streams: Gauge,
    /// Polls waiting.
    pub pollers: Gauge,
    /// Connections opened.
    pub connections_opened: Counter,
    /// Connections ended, by reason.
    pub connections_closed: Reasons,
    /// Events published for a connection that it had not been sent when it ended.
    pub lag_at_close_events: Histogram,
    /// Subscriptions and polls refused, by reason.
    pub subscriptions_refused: Reasons,
    /// Requests refused because they are past a bound of their own, by which.
    pub requests_refused: Reasons,
    /// Requests of pages of origins that CORS does not name.
    pub foreign_origin_requests: Counter,
    /// Requests of pages, and for hosts, that may not be served, by reason.
    pub pages_refused: Reasons,
    /// Requests refused for who makes them, by reason.
    pub auth_refused: Reasons,
    /// Tokens refused, by reason.
    pub tokens_refused: Reasons,
    /// Answers, by what was asked for and how it went.
    pub http_responses: HttpResponses,
    /// Connections of the HTTP server: on which requests are read and answered.
    pub http_connections: Gauge,
    /// Connections refused before the HTTP server saw them, by reason.
    pub sockets_refused: Reasons,
    /// HTTP/2 connections.
    pub http2_connections: Gauge,
    /// HTTP/2 connections that the hub closed for what their clients did, by reason.
    pub http2_closed: Reasons,
    /// TLS handshakes that failed, by reason.
    pub tls_handshakes_failed: Reasons,
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
    pub restarts: Reasons,
    /// Channels in the directory.
    pub channels: Gauge,
    /// Bytes in all histories.
    pub history_bytes: Gauge,
    /// Publish permits not in use.
    pub permits_free: Gauge,
    /// Channels whose publishers wait for a shard.
    pub channels_throttled: Gauge,
    /// Shards on which events to few subscribers gather before they are sent.
    pub shards_gathering: Gauge,
    /// Of connections that are behind.
    pub behind: Arc<BehindMetrics>,
    /// Of reloads of the settings.
    pub reloads: ReloadMetrics,
    /// Of the log on disk.
    pub disk: Arc<DiskMetrics>,
    /// Of the log that hubs share.
    pub backend: Arc<BackendMetrics>,
    /// Of traces.
    pub traces: Arc<TraceMetrics>,
    #[cfg(feature = "jemalloc")]
    heap: super::heap::Heap,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::default(),
            events_published: Counter::default(),
            bytes_published: Counter::default(),
            publish_seconds: Histogram::of_times(&TIMES),
            append_seconds: Histogram::of_times(&TIMES),
            fan_out_seconds: Histogram::of_times(&TIMES),
            shard_turn_seconds: Histogram::of_times(&TIMES),
            publishes_refused: Reasons::new(reasons::PUBLISHES_REFUSED),
            publishes_unknown: Counter::default(),
            publishes_cancelled: Counter::default(),
            publishes_replayed: Counter::default(),
            publishes_throttled: Counter::default(),
            deliveries: Counter::default(),
            sends: Counter::default(),
            fell_behind: Counter::default(),
            foreign_positions: Counter::default(),
            gaps: Reasons::new(reasons::GAPS),
            streams: Gauge::default(),
            pollers: Gauge::default(),
            connections_opened: Counter::default(),
            connections_closed: Reasons::new(reasons::connections_closed()),
            lag_at_close_events: Histogram::of_numbers(&EVENTS),
            subscriptions_refused: Reasons::new(reasons::SUBSCRIPTIONS_REFUSED),
            requests_refused: Reasons::new(reasons::REQUESTS_REFUSED),
            foreign_origin_requests: Counter::default(),
            pages_refused: Reasons::new(reasons::PAGES_REFUSED),
            auth_refused: Reasons::new(reasons::AUTH_REFUSED),
            tokens_refused: Reasons::new(reasons::TOKENS_REFUSED),
            http_responses: HttpResponses::default(),
            http_connections: Gauge::default(),
            sockets_refused: Reasons::new(reasons::SOCKETS_REFUSED),
            http2_connections: Gauge::default(),
            http2_closed: Reasons::new(reasons::HTTP2_CLOSED),
            tls_handshakes_failed: Reasons::new(reasons::TLS_HANDSHAKES_FAILED),
            tls_reloads: Counter::default(),
            tls_reloads_failed: Counter::default(),
            tls_certificate_expires: Gauge::default(),
            answers_stalled: Counter::default(),
            answers_refused: Counter::default(),
            answer_bytes: Gauge::default(),
            body_bytes: Gauge::default(),
            unsent_bytes: Gauge::default(),
            restarts: Reasons::new(reasons::RESTARTS),
            channels: Gauge::default(),
            history_bytes: Gauge::default(),
            permits_free: Gauge::default(),
            channels_throttled: Gauge::default(),
            shards_gathering: Gauge::default(),
            behind: Arc::default(),
            reloads: ReloadMetrics::default(),
            disk: Arc::default(),
            backend: Arc::default(),
            traces: Arc::default(),
            #[cfg(feature = "jemalloc")]
            heap: super::heap::Heap::default(),
        };
        metrics.register();
        Arc::new(metrics)
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
        self.registry.register_collector(Box::new(Process::new()));
        let r = self.registry.sub_registry_with_prefix("visnyk");
        #[cfg(feature = "jemalloc")]
        self.heap.register(r);
        self.behind.register(r);
        self.reloads.register(r);
        self.disk.register(r);
        self.backend.register(r);
        self.traces.register(r);
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels::OWN).set(1);
        r.register("build_info", "1, with what this hub was built from", build);
        r.register("events_published", "Events accepted", self.events_published.clone());
        r.register("bytes_published", "Frame bytes accepted", self.bytes_published.clone());
        r.register(
            "publish_seconds",
            "From a publish to its answer, of those that were accepted",
            self.publish_seconds.clone(),
        );
        r.register(
            "append_seconds",
            "From the append of a publish to the log until its events were durable and shown",
            self.append_seconds.clone(),
        );
        r.register(
            "fan_out_seconds",
            "From when events were shown until a shard had made the last send of their round; once a round",
            self.fan_out_seconds.clone(),
        );
        r.register(
            "shard_turn_seconds",
            "Time of a pass of a shard's loop, during which its other connections and requests wait",
            self.shard_turn_seconds.clone(),
        );
        r.register("publishes_refused", "Publishes refused", self.publishes_refused.0.clone());
        r.register(
            "publishes_unknown",
            "Publishes that were not durable in time, or whose log failed meanwhile",
            self.publishes_unknown.clone(),
        );
        r.register(
            "publishes_cancelled",
            "Publishes that were cancelled before their answer; their events may be in the log",
            self.publishes_cancelled.clone(),
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
        r.register(
            "foreign_positions",
            "Positions of a log that began after this one: two hubs that share no log",
            self.foreign_positions.clone(),
        );
        r.register("gaps", "Gaps sent to clients", self.gaps.0.clone());
        r.register("streams", "Streams open", self.streams.clone());
        r.register("pollers", "Long-polls waiting", self.pollers.clone());
        r.register("connections_opened", "Connections opened", self.connections_opened.clone());
        r.register("connections_closed", "Connections ended", self.connections_closed.0.clone());
        r.register(
            "lag_at_close_events",
            "Events that a stream or a waiting poll had not been sent when it ended",
            self.lag_at_close_events.clone(),
        );
        r.register(
            "subscriptions_refused",
            "Subscriptions and polls refused",
            self.subscriptions_refused.0.clone(),
        );
        r.register(
            "requests_refused",
            "Requests refused for being too long, too slow, or for asking for too much",
            self.requests_refused.0.clone(),
        );
        r.register(
            "foreign_origin_requests",
            "Requests of web pages of origins that cors_origins does not name",
            self.foreign_origin_requests.clone(),
        );
        r.register(
            "pages_refused",
            "Requests of web pages that may not make them, and for hosts that are not this hub's",
            self.pages_refused.0.clone(),
        );
        r.register(
            "auth_refused",
            "Requests refused for want of a token or of a permission",
            self.auth_refused.0.clone(),
        );
        r.register("tokens_refused", "Tokens refused", self.tokens_refused.0.clone());
        r.register(
            "http_responses",
            "Answers to requests; a stream or a waiting poll counts when it is accepted",
            self.http_responses.family.clone(),
        );
        r.register(
            "http_connections",
            "Connections on which requests are read and answered",
            self.http_connections.clone(),
        );
        r.register(
            "sockets_refused",
            "Connections rejected before their request was served",
            self.sockets_refused.0.clone(),
        );
        r.register("http2_connections", "HTTP/2 connections", self.http2_connections.clone());
        r.register(
            "http2_closed",
            "HTTP/2 connections closed for what their clients did",
            self.http2_closed.0.clone(),
        );
        r.register(
            "tls_handshakes_failed",
            "TLS handshakes that failed",
            self.tls_handshakes_failed.0.clone(),
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
        r.register("restarts", "Actors restarted", self.restarts.0.clone());
        r.register("channels", "Channels in the directory", self.channels.clone());
        r.register("history_bytes", "Bytes in all histories", self.history_bytes.clone());
        r.register("permits_free", "Publish permits not in use", self.permits_free.clone());
        r.register(
            "channels_throttled",
            "Channels whose publishers wait for a shard",
            self.channels_throttled.clone(),
        );
        r.register(
            "shards_gathering",
            "Shards busy all the time, on which events to few subscribers gather before they are sent",
            self.shards_gathering.clone(),
        );
        r.register(
            "log_lines_dropped",
            "Log lines of this process that stderr did not take in time",
            super::log_queue::dropped(),
        );
    }
}

/// What the hub was built from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    allocator: &'static str,
}

impl BuildLabels {
    const OWN: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        allocator: if cfg!(feature = "jemalloc") {
            "jemalloc"
        } else if cfg!(feature = "mimalloc") {
            "mimalloc"
        } else {
            "system"
        },
    };
}

/// Bounds of times, in nanoseconds: 50 us to 30 s.
const TIMES: [u64; 16] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];
/// Bounds of lags, in events.
const EVENTS: [u64; 6] = [0, 1, 10, 100, 1_000, 10_000];
