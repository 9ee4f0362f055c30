//! What outsiders make happen as often as they like: all of it is counted, and said in the log once a
//! second at most.

use std::net::IpAddr;

use super::Hub;
use crate::telemetry::{Metrics, Seldom};

/// When each was last said, of the whole hub.
#[derive(Debug, Default)]
pub(super) struct Reports {
    over_limit: Seldom,
    requests: Seldom,
    tokens: Seldom,
    http2: Seldom,
}

impl Hub {
    /// Counts a token that a front door has refused, by the word for why.
    pub fn count_refused_token(&self, reason: &'static str) {
        Metrics::count(&self.shared.metrics.tokens_refused, reason);
        if let Some(times) = self.reports.tokens.due() {
            tracing::warn!(reason, times, "a token was refused");
        }
    }

    /// Counts a request that is past a bound, by the word for which.
    pub(crate) fn count_refused_request(&self, reason: &'static str, client: Option<IpAddr>) {
        Metrics::count(&self.shared.metrics.requests_refused, reason);
        if let Some(times) = self.reports.requests.due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(reason, client, times, "refusing requests that are past a bound");
        }
    }

    /// Counts an HTTP/2 connection closed for what its client did, by the word for what.
    pub(crate) fn count_closed_http2(&self, reason: &'static str, peer: IpAddr) {
        Metrics::count(&self.shared.metrics.http2_closed, reason);
        if let Some(times) = self.reports.http2.due() {
            tracing::warn!(reason, %peer, times, "closing HTTP/2 connections for what clients do");
        }
    }

    /// Says that clients are refused for what is theirs.
    pub(super) fn log_over_limit(&self, limit: &str, client: Option<IpAddr>) {
        if let Some(times) = self.reports.over_limit.due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(limit, client, times, "refusing clients that are over a limit");
        }
    }
}
