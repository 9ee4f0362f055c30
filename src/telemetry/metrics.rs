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
    metric_set::metric_set,
    process::Process,
    reasons::{self, Reasons},
};

metric_set! {
    /// All metrics of one hub.
    pub struct Metrics {
        pub events_published: Counter, "Events accepted";
        pub bytes_published: Counter, "Frame bytes accepted";
        pub publish_seconds: Histogram = Histogram::of_times(&TIMES),
            "From a publish to its answer, of those that were accepted";
        pub append_seconds: Histogram = Histogram::of_times(&TIMES),
            "From the append of a publish to the log until its events were durable and shown";
        pub fan_out_seconds: Histogram = Histogram::of_times(&TIMES),
            "From when events were shown until a shard had made the last send of their round; \
             once a round";
        /// Observed once a pass.
        pub shard_turn_seconds: Histogram = Histogram::of_times(&TIMES),
            "Time of a pass of a shard's loop, during which its other connections and requests \
             wait";
        pub publishes_refused: Reasons = Reasons::new(reasons::PUBLISHES_REFUSED),
            "Publishes refused";
        pub publishes_unknown: Counter,
            "Publishes that were not durable in time, or whose log failed meanwhile";
        /// Their futures were dropped: over HTTP/2 the client has reset the request.
        pub publishes_cancelled: Counter,
            "Publishes that were cancelled before their answer; their events may be in the log";
        pub publishes_replayed: Counter, "Publishes answered again under their idempotency key";
        pub publishes_throttled: Counter,
            "Publishes that waited for a shard to send what was published before";
        /// An event to a thousand connections is a thousand.
        pub deliveries: Counter, "Events handed to connections";
        /// A send carries one event or a batch.
        pub sends: Counter, "Sends to connections";
        /// Their sockets refused a write, or took only a part of it.
        pub fell_behind: Counter, "Connections that fell behind";
        pub foreign_positions: Counter,
            "Positions of a log that began after this one: two hubs that share no log";
        pub gaps: Reasons = Reasons::new(reasons::GAPS), "Gaps sent to clients";
        pub streams: Gauge, "Streams open";
        pub pollers: Gauge, "Long-polls waiting";
        pub connections_opened: Counter, "Connections opened";
        pub connections_closed: Reasons = Reasons::new(reasons::connections_closed()),
            "Connections ended";
        pub lag_at_close_events: Histogram = Histogram::of_numbers(&EVENTS),
            "Events that a stream or a waiting poll had not been sent when it ended";
        pub subscriptions_refused: Reasons = Reasons::new(reasons::SUBSCRIPTIONS_REFUSED),
            "Subscriptions and polls refused";
        pub requests_refused: Reasons = Reasons::new(reasons::REQUESTS_REFUSED),
            "Requests refused for being too long, too slow, or for asking for too much";
        pub foreign_origin_requests: Counter,
            "Requests of web pages of origins that cors_origins does not name";
        pub pages_refused: Reasons = Reasons::new(reasons::PAGES_REFUSED),
            "Requests of web pages that may not make them, and for hosts that are not this hub's";
        pub auth_refused: Reasons = Reasons::new(reasons::AUTH_REFUSED),
            "Requests refused for want of a token or of a permission";
        pub tokens_refused: Reasons = Reasons::new(reasons::TOKENS_REFUSED), "Tokens refused";
        pub http_responses: HttpResponses,
            "Answers to requests; a stream or a waiting poll counts when it is accepted";
        pub http_connections: Gauge, "Connections on which requests are read and answered";
        pub sockets_refused: Reasons = Reasons::new(reasons::SOCKETS_REFUSED),
            "Connections rejected before their request was served";
        pub http2_connections: Gauge, "HTTP/2 connections";
        pub http2_closed: Reasons = Reasons::new(reasons::HTTP2_CLOSED),
            "HTTP/2 connections closed for what their clients did";
        pub tls_handshakes_failed: Reasons = Reasons::new(reasons::TLS_HANDSHAKES_FAILED),
            "TLS handshakes that failed";
        pub tls_reloads: Counter, "Certificates reloaded";
        pub tls_reloads_failed: Counter,
            "Certificates that could not be reloaded; the old one stays";
        /// In seconds.
        pub tls_certificate_expires as "tls_certificate_expires_seconds": Gauge,
            "When the certificate in use expires, since 1970; 0 without TLS";
        pub answers_stalled: Counter, "Answers whose clients did not read them";
        pub answers_refused: Counter,
            "Large answers refused because the budget of answers was used up";
        pub answer_bytes: Gauge, "Bytes of large answers under way";
        pub body_bytes: Gauge, "Bytes of request bodies held";
        pub unsent_bytes: Gauge, "Bytes ready for connections whose sockets have not taken them";
        pub restarts: Reasons = Reasons::new(reasons::RESTARTS), "Actors restarted";
        pub channels: Gauge, "Channels in the directory";
        pub history_bytes: Gauge, "Bytes in all histories";
        pub permits_free: Gauge, "Publish permits not in use";
        pub channels_throttled: Gauge, "Channels whose publishers wait for a shard";
        pub shards_gathering: Gauge,
            "Shards busy all the time, on which events to few subscribers gather before they are \
             sent";
    } and {
        registry: Registry,
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
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let metrics = Self::unregistered();
        metrics.register(&mut registry);
        Arc::new(Self { registry, ..metrics })
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    pub fn render(&self) -> String {
        #[cfg(feature = "jemalloc")]
        self.heap.refresh();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }

    fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Process::new()));
        let r = registry.sub_registry_with_prefix("visnyk");
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
        self.register_all(r);
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
