//! The words of labels: each counter by reason has all of its reasons from the start. A test
//! that counts a reason missing here fails.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter, family::Family},
};

use crate::core::CloseReason;

/// One label: why, or which kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    /// The word.
    reason: &'static str,
}

/// Counters of one name, by reason.
#[derive(Debug, Clone)]
pub struct Reasons(Family<Reason, Counter>);

impl Reasons {
    pub(super) fn new(reasons: impl IntoIterator<Item = &'static str>) -> Self {
        let family = Family::<Reason, Counter>::default();
        for reason in reasons {
            drop(family.get_or_create(&Reason { reason }));
        }
        Self(family)
    }

    /// Counts one. The reason must be one of those that the counters began with.
    pub fn count(&self, reason: &'static str) {
        self.check(reason);
        self.0.get_or_create(&Reason { reason }).inc();
    }

    /// The counter for one reason, for a caller that counts often.
    pub fn counter(&self, reason: &'static str) -> Counter {
        self.check(reason);
        self.0.get_or_create_owned(&Reason { reason })
    }

    /// The sum of the counts of these reasons.
    pub fn total(&self, reasons: impl IntoIterator<Item = &'static str>) -> u64 {
        let count = |reason| self.0.get(&Reason { reason }).map_or(0, |counter| counter.get());
        reasons.into_iter().map(count).sum()
    }

    fn check(&self, reason: &'static str) {
        debug_assert!(self.0.get(&Reason { reason }).is_some(), "`{reason}` is not listed");
    }
}

impl EncodeMetric for Reasons {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

/// The reasons for which connections end.
pub(super) fn connections_closed() -> impl Iterator<Item = &'static str> {
    CloseReason::ALL.into_iter().map(CloseReason::as_str)
}

pub(super) const PUBLISHES_REFUSED: [&str; 13] = [
    "overloaded",
    "too_many_channels",
    "too_many_new_channels",
    "going_down",
    "storage_full",
    "backend_away",
    "key_reused",
    "closed",
    "bodies",
    "over_burst",
    "channel_rate",
    "address_rate",
    "subject_rate",
];
pub(super) const GAPS: [&str; 5] = ["evicted", "epoch", "unknown_position", "slow", "search_limit"];
pub(super) const SUBSCRIPTIONS_REFUSED: [&str; 11] = [
    "closed",
    "not_caught_up",
    "history_busy",
    "history_unreadable",
    "too_many_connections",
    "too_many_replays",
    "too_many_of_address",
    "too_many_of_subject",
    "too_many_new_channels",
    "too_many_channels",
    "going_down",
];
pub(super) const REQUESTS_REFUSED: [&str; 12] = [
    "body_too_large",
    "slow_body",
    "too_many_pieces",
    "slow_head",
    "head_too_large",
    "too_many_fields",
    "target_too_long",
    "too_many_parameters",
    "over_maximum",
    "too_many_subscriptions",
    "too_intricate",
    "too_many_events",
];
pub(super) const TOKENS_REFUSED: [&str; 13] = [
    "too_long",
    "malformed",
    "critical",
    "algorithm",
    "unknown_key",
    "no_keys_yet",
    "signature",
    "no_expiry",
    "expired",
    "not_yet_valid",
    "issuer",
    "audience",
    "pattern",
];
pub(super) const AUTH_REFUSED: [&str; 4] =
    ["no_token", "malformed_credentials", "invalid_token", "permissions"];
pub(super) const PAGES_REFUSED: [&str; 4] = ["page", "cookie", "preflight", "host"];
pub(super) const SOCKETS_REFUSED: [&str; 6] =
    ["file_limit", "requests_max", "no_file", "address_requests_max", "address_rate", "rate"];
pub(super) const HTTP2_CLOSED: [&str; 6] =
    ["slow_head", "frames", "resets", "write_stalled", "enhance_your_calm", "protocol"];
pub(super) const TLS_HANDSHAKES_FAILED: [&str; 4] = ["plain_http", "protocol", "closed", "timeout"];
pub(super) const RESTARTS: [&str; 6] =
    ["bridge", "channel", "channels", "sampler", "shard", "shards"];
pub(super) const BACKEND_REPORTS: [&str; 2] = ["failed", "taken"];
pub(super) const BACKEND_UNCOUNTED: [&str; 3] = ["backend_away", "busy", "late"];
pub(super) const TRACE_SPANS_DROPPED: [&str; 5] =
    ["rate", "queue_full", "failed", "rejected", "end"];
pub(super) const BACKEND_CHANGES: [&str; 2] = ["epoch", "fell_off"];
