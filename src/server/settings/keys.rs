//! The table of keys: the name of every setting, and the values that it may have.

use super::{allowed::Allowed, auth::SECRET_ALGORITHMS};
use crate::{http::Role, telemetry::LogFormat};

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// The dotted name, as in `limits.poll.limit`.
    pub name: &'static str,
    /// The values that the setting may have.
    pub allowed: Allowed,
    /// Whether a reload changes it while the hub runs; otherwise a change needs a restart.
    pub reloads: bool,
}

impl Key {
    /// The environment variable that sets the value, as in `VISNYK_LIMITS__POLL__LIMIT`.
    pub fn variable(&self) -> String {
        format!("VISNYK_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// The same key, marked as one that a reload changes.
    const fn reloads(self) -> Self {
        Self { reloads: true, ..self }
    }

    /// The value of the key in the tree of all settings.
    pub(super) fn value_in<'a>(&self, root: &'a mut toml::Value) -> &'a mut toml::Value {
        self.name
            .split('.')
            .try_fold(root, |value, part| value.get_mut(part))
            .expect("a test compares the table with the settings")
    }
}

/// What this version lacks for `name`, if the name is reserved for a later version. Reserved names
/// are refused: an operator who sets one expects a protection or a durability that the hub does not
/// have.
pub(super) fn reserved(name: &str) -> Option<&'static str> {
    let section = name.split('.').next().unwrap_or(name);
    RESERVED.iter().find(|(names, _)| names.contains(&section)).map(|(_, lacks)| *lacks)
}

const fn key(name: &'static str, allowed: Allowed) -> Key {
    Key { name, allowed, reloads: false }
}

const fn whole(name: &'static str, min: i64, max: i64) -> Key {
    key(name, Allowed::Whole { min, max })
}

/// The largest `u32`.
const U32_MAX: i64 = u32::MAX as i64;
/// A day in seconds: no request or connection waits longer for anything.
const DAY_S: i64 = 86_400;
/// 1 TiB, which is more memory than any machine gives to history.
const BYTES_MAX: i64 = 1 << 40;
/// Limit of a table of rates: all of its entries are visited regularly.
const RATES_MAX: i64 = 10_000_000;
/// Limit of publishes in flight: the queues of the log and of every shard reserve an entry for
/// each.
const IN_FLIGHT_MAX: i64 = 1 << 20;
/// The smallest segment. With smaller ones every few events would need a new file and two more
/// fsyncs.
const SEGMENT_BYTES_MIN: i64 = 64 << 10;
/// Limit of threads that read. A disk does not serve more requests at a time.
const READ_THREADS_MAX: i64 = 256;
/// The kernel takes buffer sizes as a signed 32-bit number and doubles them.
const SEND_BUFFER_MAX: i64 = (1 << 30) - 1;

pub(super) const KEYS: &[Key] = &[
    key("listen", Allowed::Addresses),
    key("insecure", Allowed::Switch),
    key("allowed_hosts", Allowed::Hosts).reloads(),
    key("trusted_proxies", Allowed::Networks).reloads(),
    key("quickstart", Allowed::Switch).reloads(),
    key("demo", Allowed::Switch),
    whole("shards", 0, 1_024),
    key("faults", Allowed::Switch),
    key("plain_refusals", Allowed::Switch).reloads(),
    whole("accept_queue_max", 1, U32_MAX >> 1),
    whole("drain_delay_s", 0, DAY_S).reloads(),
    whole("drain_window_s", 0, DAY_S).reloads(),
    whole("keep_alive_s", 1, DAY_S),
    whole("header_read_timeout_s", 1, DAY_S),
    whole("body_read_timeout_s", 1, DAY_S).reloads(),
    key("data_dir", Allowed::Text),
    key("take_over", Allowed::Switch),
    key("role", Allowed::Choice(Role::WORDS)),
    key("node", Allowed::Text),
    key("cors_origins", Allowed::OriginPatterns).reloads(),
    key("tls_cert", Allowed::Text).reloads(),
    key("tls_key", Allowed::Text).reloads(),
    whole("tls_reload_s", 1, DAY_S),
    // Browsers' preload lists ask for two years.
    whole("hsts_max_age_s", 0, 2 * 366 * DAY_S).reloads(),
    key("jwt_secret", Allowed::Secret).reloads(),
    key("jwt_secret_file", Allowed::Text).reloads(),
    key("allow_anonymous", Allowed::Patterns).reloads(),
    key("auth.secret_algorithm", Allowed::Choice(SECRET_ALGORITHMS)).reloads(),
    key("auth.public_key_files", Allowed::KeyFiles).reloads(),
    key("auth.jwks_file", Allowed::Text).reloads(),
    key("auth.jwks_url", Allowed::Url).reloads(),
    whole("auth.jwks_refresh_s", 1, DAY_S).reloads(),
    whole("auth.jwks_refresh_min_s", 1, DAY_S).reloads(),
    key("auth.issuer", Allowed::Text).reloads(),
    key("auth.audience", Allowed::Texts).reloads(),
    key("auth.expiry_required", Allowed::Switch).reloads(),
    whole("auth.leeway_s", 0, 300).reloads(),
    // The whole head of a request has at most 32 KiB.
    whole("auth.token_bytes_max", 256, 16_384).reloads(),
    key("auth.query_token", Allowed::Switch).reloads(),
    key("auth.cookie", Allowed::CookieName).reloads(),
    key("auth.cookie_origins", Allowed::Origins).reloads(),
    key("auth.metrics", Allowed::Choice(&["loopback", "token", "open"])).reloads(),
    key("auth.metrics_token", Allowed::Secret).reloads(),
    key("cors.credentials", Allowed::Switch).reloads(),
    whole("cors.max_age_s", 0, DAY_S).reloads(),
    key("channels.rules", Allowed::Rules).reloads(),
    key("log.format", Allowed::Choice(LogFormat::WORDS)),
    key("log.level", Allowed::LogFilter).reloads(),
    key("log.access", Allowed::Switch).reloads(),
    whole("log.queue_bytes_max", 4_096, 1 << 30),
    key("log.sync", Allowed::Sync),
    whole("log.segment_bytes", SEGMENT_BYTES_MIN, 1 << 32),
    whole("log.bytes_max", 0, BYTES_MAX),
    whole("log.age_max_s", 0, U32_MAX),
    whole("log.read_threads", 1, READ_THREADS_MAX),
    whole("log.read_queue_max", 1, U32_MAX),
    whole("log.read_piece_bytes", 1_024, 16 << 20),
    whole("log.read_bytes_max", 1, BYTES_MAX),
    whole("log.read_cache_bytes_max", 0, BYTES_MAX),
    whole("log.search_bytes_max", 65_536, BYTES_MAX),
    whole("log.search_memory_bytes_max", 65_536, BYTES_MAX),
    key("backend.url", Allowed::Backend),
    key("backend.namespace", Allowed::Name),
    key("backend.user", Allowed::Text),
    key("backend.password_file", Allowed::Text),
    key("backend.ca_file", Allowed::Text),
    whole("backend.events_max", 1, 1_000_000_000),
    whole("backend.bytes_max", 1, BYTES_MAX),
    whole("backend.age_max_s", 1, U32_MAX),
    // While the script of an append runs, the server does nothing else.
    whole("backend.batch_events_max", 1, 10_000),
    whole("backend.catch_up_wait_ms", 0, 600_000),
    whole("backend.counts_interval_ms", 100, 600_000),
    whole("backend.counts_expiry_ms", 200, 3_600_000),
    whole("backend.counts_channels_max", 1, 1_000_000),
    key("traces.endpoint", Allowed::Collector),
    key("traces.headers", Allowed::Secret),
    key("traces.service_name", Allowed::Name),
    whole("traces.sampled_per_million", 0, 1_000_000).reloads(),
    key("traces.follows_parent", Allowed::Switch).reloads(),
    whole("traces.spans_per_s_max", 1, 1_000_000).reloads(),
    // A span takes a few hundred bytes, and 4 KiB at most.
    whole("traces.queue_spans_max", 1, 1 << 20),
    whole("traces.export_timeout_ms", 1, 600_000),
    whole("traces.flush_ms", 0, 60_000),
    whole("limits.history.events_max", 1, U32_MAX).reloads(),
    whole("limits.history.age_max_s", 1, U32_MAX).reloads(),
    whole("limits.history.bytes_max", 1, BYTES_MAX).reloads(),
    whole("limits.history.total_bytes_max", 1, BYTES_MAX),
    whole("limits.channels.channels_max", 1, U32_MAX),
    whole("limits.channels.idle_s", 1, U32_MAX),
    whole("limits.channels.tombstone_s", 1, U32_MAX),
    whole("limits.channels.tombstones_max", 1, U32_MAX),
    whole("limits.channels.forgotten_max", 0, U32_MAX),
    whole("limits.channels.rules_max", 0, 10_000),
    whole("limits.channels.events_per_s", 0, U32_MAX).reloads(),
    whole("limits.channels.events_burst", 1, U32_MAX).reloads(),
    whole("limits.connections.connections_max", 1, U32_MAX),
    whole("limits.connections.requests_max", 1, U32_MAX),
    whole("limits.connections.new_per_s", 0, U32_MAX),
    whole("limits.connections.new_burst", 1, U32_MAX),
    whole("limits.connections.subscriptions_max", 1, 2_000).reloads(),
    whole("limits.connections.lag_events_max", 1, U32_MAX),
    whole("limits.connections.lag_bytes_max", 1, BYTES_MAX),
    whole("limits.connections.unsent_bytes_max", 1, BYTES_MAX),
    whole("limits.connections.answers_bytes_max", 1, BYTES_MAX),
    key("limits.connections.slow_policy", Allowed::Choice(&["disconnect", "skip"])).reloads(),
    whole("limits.connections.write_stall_s", 1, DAY_S),
    whole("limits.connections.heartbeat_s", 1, DAY_S),
    whole("limits.connections.deadline_check_ms", 1, 60_000),
    whole("limits.connections.age_max_s", 0, U32_MAX).reloads(),
    whole("limits.connections.replays_max", 1, 1_000_000),
    whole("limits.connections.replay_wait_ms", 0, 600_000),
    whole("limits.connections.retry_min_ms", 1, DAY_S * 1_000),
    whole("limits.connections.retry_max_ms", 1, DAY_S * 1_000),
    whole("limits.connections.send_buffer_bytes", 0, SEND_BUFFER_MAX),
    whole("limits.publish.body_bytes_max", 1, 1 << 30).reloads(),
    whole("limits.publish.bodies_bytes_max", 1, BYTES_MAX),
    whole("limits.publish.batch_events_max", 1, 1_000_000).reloads(),
    whole("limits.publish.wait_ms", 0, 600_000),
    whole("limits.publish.outcome_wait_ms", 1, 600_000),
    whole("limits.publish.delay_max_ms", 1, 600_000),
    whole("limits.publish.gather_max_ms", 0, 1_000),
    whole("limits.publish.in_flight_max", 1, IN_FLIGHT_MAX),
    whole("limits.publish.channel_share_percent", 1, 100),
    whole("limits.publish.idempotency_keys_max", 1, U32_MAX),
    whole("limits.publish.idempotency_s", 1, DAY_S),
    whole("limits.poll.timeout_s", 1, DAY_S).reloads(),
    whole("limits.poll.timeout_max_s", 1, DAY_S).reloads(),
    whole("limits.poll.limit", 1, 1_000_000).reloads(),
    whole("limits.poll.limit_max", 1, 1_000_000).reloads(),
    whole("limits.poll.drain_pause_ms", 0, 3_600_000).reloads(),
    whole("limits.http2.streams_max", 1, 65_535),
    whole("limits.http2.resets_max", 1, U32_MAX),
    whole("limits.http2.frames_max", 16, U32_MAX),
    // RFC 9113, section 6.9.1. The window of a connection begins with 65,535 bytes (section 6.9.2).
    whole("limits.http2.window_bytes", 1_024, U32_MAX >> 1),
    whole("limits.http2.connection_window_bytes", 65_535, U32_MAX >> 1),
    whole("limits.http2.idle_s", 1, DAY_S),
    whole("limits.http2.keep_alive_s", 1, DAY_S),
    whole("limits.http2.keep_alive_timeout_s", 1, DAY_S),
    whole("limits.requests.target_bytes_max", 256, 65_534),
    // The minimum is that of the HTTP server. A head above the maximum is a client's mistake.
    whole("limits.requests.head_bytes_max", 8_192, 1 << 20),
    whole("limits.requests.fields_max", 1, 1_000),
    whole("limits.per_address.requests_max", 0, U32_MAX),
    whole("limits.per_address.connections_max", 0, U32_MAX),
    whole("limits.per_address.new_per_s", 0, U32_MAX),
    whole("limits.per_address.new_burst", 1, U32_MAX),
    whole("limits.per_address.events_per_s", 0, U32_MAX),
    whole("limits.per_address.events_burst", 1, U32_MAX),
    whole("limits.per_address.channels_per_s", 0, U32_MAX),
    whole("limits.per_address.channels_burst", 1, U32_MAX),
    whole("limits.per_address.answers_bytes_max", 0, U32_MAX),
    whole("limits.per_address.rates_max", 1, RATES_MAX),
    key("limits.per_address.loopback", Allowed::Switch),
    whole("limits.per_subject.connections_max", 0, U32_MAX),
    whole("limits.per_subject.events_per_s", 0, U32_MAX),
    whole("limits.per_subject.events_burst", 1, U32_MAX),
    whole("limits.per_subject.channels_per_s", 0, U32_MAX),
    whole("limits.per_subject.channels_burst", 1, U32_MAX),
    whole("limits.per_subject.rates_max", 1, RATES_MAX),
];

/// First segments of names that are reserved for later versions, and what this version lacks.
const RESERVED: &[(&[&str], &str)] = &[(&["mercure"], "it does not speak the Mercure protocol")];

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn the_table_holds_every_setting_and_no_other() {
        let table = toml::Table::try_from(Settings::default()).expect("TOML");
        let mut fields = Vec::new();
        flatten("", &toml::Value::Table(table), &mut fields);
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        names.sort();
        fields.sort();
        assert_eq!(names, fields);
    }

    #[test]
    fn every_default_is_allowed() {
        let mut root = toml::Value::try_from(Settings::default()).expect("TOML");
        for key in KEYS {
            let value = key.value_in(&mut root).clone();
            assert_eq!(key.allowed.admit(&value), Some(value), "{}", key.name);
        }
    }

    #[test]
    fn no_setting_is_reserved() {
        for key in KEYS {
            assert_eq!(reserved(key.name), None, "{}", key.name);
        }
    }

    fn flatten(prefix: &str, value: &toml::Value, fields: &mut Vec<String>) {
        let Some(table) = value.as_table() else {
            fields.push(prefix.to_owned());
            return;
        };
        for (name, value) in table {
            let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            flatten(&name, value, fields);
        }
    }
}
