//! The settings themselves, with their defaults.

use serde::{Deserialize, Serialize};

use super::{AuthSettings, Key, ListenAddr, keys};
use crate::auth::{PatternTemplate, Secret};
use crate::core::{ChannelRule, Limits};
use crate::disk::SyncPolicy;
use crate::http::{Cors, OriginPattern, ProxyBlock, Role};
use crate::hub::ReadLimits;
use crate::telemetry::LogFormat;

/// Everything that can be set about a hub process. `Default` gives the documented defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Addresses to accept connections on; port 0 lets the kernel choose one.
    pub listen: Vec<ListenAddr>,
    /// Allows the hub to listen on addresses other than loopback ones although clients are not
    /// authenticated.
    pub insecure: bool,
    /// Hosts that a request may name in `Host`. On a loopback address the names of this machine are
    /// allowed too; on other addresses an empty list allows any host.
    pub allowed_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<ProxyBlock>,
    /// Serves the quickstart routes (`/publish`, `/subscribe`, `/events`).
    pub quickstart: bool,
    /// Publishes an update to the channel `default` every 3 seconds.
    pub demo: bool,
    /// Shards that share the connections among them; 0 is one per core.
    pub shards: usize,
    /// Opens the fault hook, which kills or panics actors on request. Only for tests.
    pub faults: bool,
    /// Answers a temporary refusal of a stream with 429 or 503 instead of a 200 that ends.
    pub plain_refusals: bool,
    /// Other origins whose pages may use the hub. Pages of its own origin always may.
    pub cors_origins: Vec<OriginPattern>,
    /// What pages of these origins may do.
    pub cors: CorsSettings,
    /// Connections that may wait to be accepted, at each listener; the kernel's `somaxconn` caps
    /// it.
    pub accept_queue_max: u32,
    /// Seconds before a drain in which the hub says that it is not ready, but serves all requests.
    pub drain_delay_s: u32,
    /// Seconds over which a drain spreads the closing of streams; 0 closes them at once.
    pub drain_window_s: u32,
    /// Seconds after its last answer in which a connection must send its next request. A number
    /// below `header_read_timeout_s` counts as that timeout.
    pub keep_alive_s: u32,
    /// Seconds within which the whole head of a request must arrive.
    pub header_read_timeout_s: u32,
    /// Seconds within which the whole body of a request must arrive.
    pub body_read_timeout_s: u32,
    /// The directory of the log on disk; empty keeps history in memory.
    pub data_dir: String,
    /// Takes over the listening sockets and the log of the hub that runs on `data_dir` now, if
    /// there is one.
    pub take_over: bool,
    /// The part of this hub among those that share a log.
    pub role: Role,
    /// The name of this hub among those that share a log; empty for the name of its machine.
    pub node: String,
    /// The log that this hub shares with others.
    pub backend: BackendSettings,
    /// A file with the certificate chain for TLS, in PEM. With it all addresses speak TLS.
    pub tls_cert: String,
    /// A file with the key of the certificate, in PEM.
    pub tls_key: String,
    /// Seconds between two checks whether these two files have changed.
    pub tls_reload_s: u32,
    /// The `max-age` of `Strict-Transport-Security`, in seconds; 0 leaves the field out.
    pub hsts_max_age_s: u32,
    /// The secret that tokens are signed with (HMAC). With a secret or another key, clients are
    /// authenticated.
    pub jwt_secret: Secret,
    /// A file with that secret.
    pub jwt_secret_file: String,
    /// Channels that may be subscribed to without a token.
    pub allow_anonymous: Vec<PatternTemplate>,
    /// Other keys, and the rules for tokens.
    pub auth: AuthSettings,
    /// Settings of some channels.
    pub channels: ChannelSettings,
    /// The log on stderr, and the log on disk.
    pub log: LogSettings,
    /// Which publishes are traced, and where their spans go.
    pub traces: TraceSettings,
    /// The bounds of the hub.
    pub limits: Limits,
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: ListenAddr::LOOPBACK.to_vec(),
            insecure: false,
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            quickstart: true,
            demo: false,
            shards: 0,
            faults: false,
            plain_refusals: false,
            cors_origins: Vec::new(),
            cors: CorsSettings::default(),
            accept_queue_max: 65_535,
            drain_delay_s: 0,
            drain_window_s: 10,
            keep_alive_s: 75,
            header_read_timeout_s: 10,
            body_read_timeout_s: 30,
            data_dir: String::new(),
            take_over: false,
            role: Role::All,
            node: String::new(),
            backend: BackendSettings::default(),
            tls_cert: String::new(),
            tls_key: String::new(),
            tls_reload_s: 5,
            hsts_max_age_s: 0,
            jwt_secret: Secret::default(),
            jwt_secret_file: String::new(),
            allow_anonymous: Vec::new(),
            auth: AuthSettings::default(),
            channels: ChannelSettings::default(),
            log: LogSettings::default(),
            traces: TraceSettings::default(),
            limits: Limits::default(),
        }
    }
}

/// What pages of the origins in `cors_origins` may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CorsSettings {
    /// Whether their requests may carry cookies.
    pub credentials: bool,
    /// Seconds for which a browser may keep the answer to a preflight.
    pub max_age_s: u32,
}

impl Default for CorsSettings {
    fn default() -> Self {
        let Cors { credentials, max_age_s, .. } = Cors::default();
        Self { credentials, max_age_s }
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

/// The log that several hubs share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BackendSettings {
    /// The address of the server that keeps the log; empty for a log of the hub's own.
    pub url: String,
    /// The prefix of the log's keys on the server. Hubs with the same prefix share a log.
    pub namespace: String,
    /// The user of the server's access control lists; empty for the default user.
    pub user: String,
    /// A file with the password of that user.
    pub password_file: String,
    /// A file with certificates of authorities, in PEM. One of them must have signed the server's
    /// certificate.
    pub ca_file: String,
    /// About how many events the log keeps.
    pub events_max: u64,
    /// About how many bytes of events the log keeps.
    pub bytes_max: u64,
    /// About how many seconds the log keeps an event.
    pub age_max_s: u32,
    /// Most events of one publish, and of one append to the server.
    pub batch_events_max: u32,
    /// Milliseconds that a subscription waits for the hub to load the events up to its position.
    pub catch_up_wait_ms: u32,
    /// Milliseconds between two reports of the hub's subscriber counts.
    pub counts_interval_ms: u32,
    /// Milliseconds after which a report expires if no further one comes.
    pub counts_expiry_ms: u32,
    /// Most channels in one report.
    pub counts_channels_max: u32,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            namespace: "visnyk".to_owned(),
            user: String::new(),
            password_file: String::new(),
            ca_file: String::new(),
            events_max: 200_000,
            bytes_max: 1 << 30,
            age_max_s: 86_400,
            batch_events_max: 256,
            catch_up_wait_ms: 5_000,
            counts_interval_ms: 2_000,
            counts_expiry_ms: 10_000,
            counts_channels_max: 100_000,
        }
    }
}

/// Which publishes are traced, and where their spans go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TraceSettings {
    /// The URL of a collector that takes OTLP over HTTP; empty for no traces.
    pub endpoint: String,
    /// Header fields of each request to the collector, as in `authorization=Bearer abc,x-team=a`.
    pub headers: Secret,
    /// The name of the hub in its spans (`service.name`).
    pub service_name: String,
    /// How many of a million publishes are traced that have no valid `traceparent`.
    pub sampled_per_million: u32,
    /// Whether the sampled flag of a client's `traceparent` decides whether its publish is traced.
    pub follows_parent: bool,
    /// Spans a second, of all publishes together; more are dropped.
    pub spans_per_s_max: u32,
    /// Spans that may wait to be exported; more are dropped.
    pub queue_spans_max: u32,
    /// Milliseconds that the collector may take to answer.
    pub export_timeout_ms: u32,
    /// Milliseconds that the hub waits at its end for the last spans to be exported.
    pub flush_ms: u32,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: Secret::default(),
            service_name: "visnyk".to_owned(),
            sampled_per_million: 10_000,
            follows_parent: true,
            spans_per_s_max: 1_000,
            queue_spans_max: 4_096,
            export_timeout_ms: 10_000,
            flush_ms: 2_000,
        }
    }
}

/// The log on stderr (`format` to `queue_bytes_max`), and the log on disk (all others).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogSettings {
    /// The format of a line.
    pub format: LogFormat,
    /// What is logged: a level, or levels by module (`info,visnyk::http=debug`).
    pub level: String,
    /// Whether each request has a line (the access log), at any level.
    pub access: bool,
    /// Bytes of lines that may wait until stderr accepts them; more lines are dropped.
    pub queue_bytes_max: u32,
    /// When the log on disk is fsynced: `always` before an event is acknowledged, or at an interval
    /// as in `200ms`.
    pub sync: SyncPolicy,
    /// Bytes of one file (segment) of the log on disk, allocated when it is created.
    pub segment_bytes: u64,
    /// Bytes of the log on disk, above which the oldest files are removed; 0 for no limit.
    pub bytes_max: u64,
    /// Seconds after which a file of the log on disk is removed; 0 for no limit.
    pub age_max_s: u32,
    /// Threads that read history from the log on disk.
    pub read_threads: u32,
    /// Reads that may wait for one of these threads.
    pub read_queue_max: u32,
    /// Bytes of frames that one read returns.
    pub read_piece_bytes: u32,
    /// Bytes that have been read from the log on disk and not sent yet.
    pub read_bytes_max: u64,
    /// Bytes of the log that are cached in memory for other readers, and as many bytes of its
    /// indexes.
    pub read_cache_bytes_max: u64,
    /// Bytes of the log that one search for the last events of channels reads.
    pub search_bytes_max: u64,
    /// Bytes of memory that all such searches hold together.
    pub search_memory_bytes_max: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        let reads = ReadLimits::default();
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
            access: false,
            queue_bytes_max: 1024 * 1024,
            sync: SyncPolicy::Always,
            segment_bytes: 64 * 1024 * 1024,
            bytes_max: 10 * 1024 * 1024 * 1024,
            age_max_s: 0,
            read_threads: reads.threads,
            read_queue_max: reads.queue_max,
            read_piece_bytes: reads.piece_bytes,
            read_bytes_max: reads.bytes_max,
            read_cache_bytes_max: reads.cache_bytes_max,
            search_bytes_max: reads.search_bytes_max,
            search_memory_bytes_max: reads.search_memory_bytes_max,
        }
    }
}
