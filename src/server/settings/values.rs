//! The settings themselves, with their defaults.

use serde::{Deserialize, Serialize};

use super::{AuthSettings, Key, ListenAddr, keys};
use crate::auth::{PatternTemplate, Secret};
use crate::core::{ChannelRule, Limits, with_defaults};
use crate::disk::SyncPolicy;
use crate::http::{Cors, OriginPattern, ProxyBlock, Role};
use crate::hub::ReadLimits;
use crate::telemetry::LogFormat;

with_defaults! {
    /// Everything that can be set about a hub process. `Default` gives the documented defaults.
    pub struct Settings {
        /// Addresses to accept connections on; port 0 lets the kernel choose one.
        pub listen: Vec<ListenAddr> = ListenAddr::LOOPBACK.to_vec(),
        /// Allows the hub to listen on addresses other than loopback ones although clients are not
        /// authenticated.
        pub insecure: bool = false,
        /// Hosts that a request may name in `Host`. On a loopback address the names of this machine
        /// are allowed too; on other addresses an empty list allows any host.
        pub allowed_hosts: Vec<String> = Vec::new(),
        /// Proxies whose `X-Forwarded-For` is trusted.
        pub trusted_proxies: Vec<ProxyBlock> = Vec::new(),
        /// Serves the quickstart routes (`/publish`, `/subscribe`, `/events`).
        pub quickstart: bool = true,
        /// Publishes an update to the channel `default` every 3 seconds.
        pub demo: bool = false,
        /// Shards that share the connections among them; 0 is one per core.
        pub shards: usize = 0,
        /// Opens the fault hook, which kills or panics actors on request. Only for tests.
        pub faults: bool = false,
        /// Answers a temporary refusal of a stream with 429 or 503 instead of a 200 that ends.
        pub plain_refusals: bool = false,
        /// Other origins whose pages may use the hub. Pages of its own origin always may.
        pub cors_origins: Vec<OriginPattern> = Vec::new(),
        /// What pages of these origins may do.
        pub cors: CorsSettings = CorsSettings::default(),
        /// Connections that may wait to be accepted, at each listener; the kernel's `somaxconn`
        /// caps it.
        pub accept_queue_max: u32 = 65_535,
        /// Seconds before a drain in which the hub says that it is not ready, but serves all
        /// requests.
        pub drain_delay_s: u32 = 0,
        /// Seconds over which a drain spreads the closing of streams; 0 closes them at once.
        pub drain_window_s: u32 = 10,
        /// Seconds after its last answer in which a connection must send its next request. A number
        /// below `header_read_timeout_s` counts as that timeout.
        pub keep_alive_s: u32 = 75,
        /// Seconds within which the whole head of a request must arrive.
        pub header_read_timeout_s: u32 = 10,
        /// Seconds within which the whole body of a request must arrive.
        pub body_read_timeout_s: u32 = 30,
        /// The directory of the log on disk; empty keeps history in memory.
        pub data_dir: String = String::new(),
        /// Takes over the listening sockets and the log of the hub that runs on `data_dir` now, if
        /// there is one.
        pub take_over: bool = false,
        /// The part of this hub among those that share a log.
        pub role: Role = Role::All,
        /// The name of this hub among those that share a log; empty for the name of its machine.
        pub node: String = String::new(),
        /// The log that this hub shares with others.
        pub backend: BackendSettings = BackendSettings::default(),
        /// A file with the certificate chain for TLS, in PEM. With it all addresses speak TLS.
        pub tls_cert: String = String::new(),
        /// A file with the key of the certificate, in PEM.
        pub tls_key: String = String::new(),
        /// Seconds between two checks whether these two files have changed.
        pub tls_reload_s: u32 = 5,
        /// The `max-age` of `Strict-Transport-Security`, in seconds; 0 leaves the field out.
        pub hsts_max_age_s: u32 = 0,
        /// The secret that tokens are signed with (HMAC). With a secret or another key, clients are
        /// authenticated.
        pub jwt_secret: Secret = Secret::default(),
        /// A file with that secret.
        pub jwt_secret_file: String = String::new(),
        /// Channels that may be subscribed to without a token.
        pub allow_anonymous: Vec<PatternTemplate> = Vec::new(),
        /// Other keys, and the rules for tokens.
        pub auth: AuthSettings = AuthSettings::default(),
        /// Settings of some channels.
        pub channels: ChannelSettings = ChannelSettings::default(),
        /// The log on stderr, and the log on disk.
        pub log: LogSettings = LogSettings::default(),
        /// Which publishes are traced, and where their spans go.
        pub traces: TraceSettings = TraceSettings::default(),
        /// The bounds of the hub.
        pub limits: Limits = Limits::default(),
    }
}

impl Settings {
    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        !self.tls_cert.is_empty() && !self.tls_key.is_empty()
    }

    /// Whether clients are authenticated: there is a key of some kind.
    pub fn authenticates(&self) -> bool {
        let auth = &self.auth;
        !self.jwt_secret.is_empty()
            || !self.jwt_secret_file.is_empty()
            || !auth.public_key_files.is_empty()
            || !auth.jwks_file.is_empty()
            || !auth.jwks_url.is_empty()
    }

    /// Whether only programs on this machine can reach the hub.
    pub fn is_on_loopback(&self) -> bool {
        self.listen.iter().all(|address| address.is_loopback())
    }

    /// All keys, in the order of the documentation.
    pub fn keys() -> &'static [Key] {
        keys::KEYS
    }
}

with_defaults! {
    /// What pages of the origins in `cors_origins` may do.
    pub struct CorsSettings {
        /// Whether their requests may carry cookies.
        pub credentials: bool = Cors::default().credentials,
        /// Seconds for which a browser may keep the answer to a preflight.
        pub max_age_s: u32 = Cors::default().max_age_s,
    }
}

/// Settings of some channels, which replace limits of the hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ChannelSettings {
    /// Of the rules that match a channel, the first one applies.
    pub rules: Vec<ChannelRule>,
}

with_defaults! {
    /// The log that several hubs share.
    pub struct BackendSettings {
        /// The address of the server that keeps the log; empty for a log of the hub's own.
        pub url: String = String::new(),
        /// The prefix of the log's keys on the server. Hubs with the same prefix share a log.
        pub namespace: String = "visnyk".to_owned(),
        /// The user of the server's access control lists; empty for the default user.
        pub user: String = String::new(),
        /// A file with the password of that user.
        pub password_file: String = String::new(),
        /// A file with certificates of authorities, in PEM. One of them must have signed the
        /// server's certificate.
        pub ca_file: String = String::new(),
        /// About how many events the log keeps.
        pub events_max: u64 = 200_000,
        /// About how many bytes of events the log keeps.
        pub bytes_max: u64 = 1 << 30,
        /// About how many seconds the log keeps an event.
        pub age_max_s: u32 = 86_400,
        /// Most events of one publish, and of one append to the server.
        pub batch_events_max: u32 = 256,
        /// Milliseconds that a subscription waits for the hub to load the events up to its
        /// position.
        pub catch_up_wait_ms: u32 = 5_000,
        /// Milliseconds between two reports of the hub's subscriber counts.
        pub counts_interval_ms: u32 = 2_000,
        /// Milliseconds after which a report expires if no further one comes.
        pub counts_expiry_ms: u32 = 10_000,
        /// Most channels in one report.
        pub counts_channels_max: u32 = 100_000,
    }
}

with_defaults! {
    /// Which publishes are traced, and where their spans go.
    pub struct TraceSettings {
        /// The URL of a collector that takes OTLP over HTTP; empty for no traces.
        pub endpoint: String = String::new(),
        /// Header fields of each request to the collector, as in
        /// `authorization=Bearer abc,x-team=a`.
        pub headers: Secret = Secret::default(),
        /// The name of the hub in its spans (`service.name`).
        pub service_name: String = "visnyk".to_owned(),
        /// How many of a million publishes are traced that have no valid `traceparent`.
        pub sampled_per_million: u32 = 10_000,
        /// Whether the sampled flag of a client's `traceparent` decides whether its publish is
        /// traced.
        pub follows_parent: bool = true,
        /// Spans a second, of all publishes together; more are dropped.
        pub spans_per_s_max: u32 = 1_000,
        /// Spans that may wait to be exported; more are dropped.
        pub queue_spans_max: u32 = 4_096,
        /// Milliseconds that the collector may take to answer.
        pub export_timeout_ms: u32 = 10_000,
        /// Milliseconds that the hub waits at its end for the last spans to be exported.
        pub flush_ms: u32 = 2_000,
    }
}

with_defaults! {
    /// The log on stderr (`format` to `queue_bytes_max`), and the log on disk (all others).
    pub struct LogSettings {
        /// The format of a line.
        pub format: LogFormat = LogFormat::Text,
        /// What is logged: a level, or levels by module (`info,visnyk::http=debug`).
        pub level: String = "info".to_owned(),
        /// Whether each request has a line (the access log), at any level.
        pub access: bool = false,
        /// Bytes of lines that may wait until stderr accepts them; more lines are dropped.
        pub queue_bytes_max: u32 = 1024 * 1024,
        /// When the log on disk is fsynced: `always` before an event is acknowledged, or at an
        /// interval as in `200ms`.
        pub sync: SyncPolicy = SyncPolicy::Always,
        /// Bytes of one file (segment) of the log on disk, allocated when it is created.
        pub segment_bytes: u64 = 64 * 1024 * 1024,
        /// Bytes of the log on disk, above which the oldest files are removed; 0 for no limit.
        pub bytes_max: u64 = 10 * 1024 * 1024 * 1024,
        /// Seconds after which a file of the log on disk is removed; 0 for no limit.
        pub age_max_s: u32 = 0,
        /// Threads that read history from the log on disk.
        pub read_threads: u32 = ReadLimits::default().threads,
        /// Reads that may wait for one of these threads.
        pub read_queue_max: u32 = ReadLimits::default().queue_max,
        /// Bytes of frames that one read returns.
        pub read_piece_bytes: u32 = ReadLimits::default().piece_bytes,
        /// Bytes that have been read from the log on disk and not sent yet.
        pub read_bytes_max: u64 = ReadLimits::default().bytes_max,
        /// Bytes of the log that are cached in memory for other readers, and as many bytes of its
        /// indexes.
        pub read_cache_bytes_max: u64 = ReadLimits::default().cache_bytes_max,
        /// Bytes of the log that one search for the last events of channels reads.
        pub search_bytes_max: u64 = ReadLimits::default().search_bytes_max,
        /// Bytes of memory that all such searches hold together.
        pub search_memory_bytes_max: u64 = ReadLimits::default().search_memory_bytes_max,
    }
}
