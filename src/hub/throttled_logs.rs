//! What clients can cause as often as they like: all of it is counted, and logged once a second at most.

use std::net::IpAddr;

use super::Hub;
use crate::telemetry::{LogThrottle, Metrics};

/// When each was last logged, of the whole hub.
#[derive(Debug, Default)]
pub(super) struct ThrottledLogs {
    over_limit: LogThrottle,
    requests: LogThrottle,
    tokens: LogThrottle,
    http2: LogThrottle,
}

impl Hub {
    /// Counts a token that a front door has refused, by its reason.
    pub fn count_refused_token(&self, reason: &'static str) {
        Metrics::count(&self.shared.metrics.tokens_refused, reason);
        if let Some(times) = self.logs.tokens.due() {
            tracing::warn!(reason, times, "a token was refused");
        }
    }

    /// Counts a request that is over a limit, by the name of that.
    pub(crate) fn count_refused_request(&self, reason: &'static str, client: Option<IpAddr>) {
        Metrics::count(&self.shared.metrics.requests_refused, reason);
        if let Some(times) = self.logs.requests.due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(reason, client, times, "refusing requests that are over a limit");
        }
    }

    /// Counts an HTTP/2 connection closed for what its client did, by its reason.
    pub(crate) fn count_closed_http2(&self, reason: &'static str, peer: IpAddr) {
        Metrics::count(&self.shared.metrics.http2_closed, reason);
        if let Some(times) = self.logs.http2.due() {
            tracing::warn!(reason, %peer, times, "closing HTTP/2 connections for what clients do");
        }
    }

    /// Logs that clients are refused at a limit of theirs.
    pub(super) fn log_over_limit(&self, limit: &str, client: Option<IpAddr>) {
        if let Some(times) = self.logs.over_limit.due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(limit, client, times, "refusing clients that are over a limit");
        }
    }
}
