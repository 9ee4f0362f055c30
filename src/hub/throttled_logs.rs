//! Log lines that clients can cause at any rate: each kind is written at most once a second.

use std::net::IpAddr;

use crate::telemetry::LogThrottle;

/// A throttle for each kind of line, for the whole hub.
#[derive(Debug, Default)]
pub(super) struct ThrottledLogs {
    over_limit: LogThrottle,
    requests: LogThrottle,
    tokens: LogThrottle,
    http2: LogThrottle,
    foreign: LogThrottle,
}

impl ThrottledLogs {
    /// Logs that a client exceeded a limit of its own.
    pub(super) fn over_limit(&self, limit: &str, client: Option<IpAddr>) {
        if let Some(times) = self.over_limit.due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(limit, client, times, "refusing clients that are over a limit");
        }
    }

    pub(super) fn refused_token(&self, reason: &str) {
        if let Some(times) = self.tokens.due() {
            tracing::warn!(reason, times, "a token was refused");
        }
    }

    pub(super) fn refused_request(&self, reason: &str, client: Option<IpAddr>) {
        if let Some(times) = self.requests.due() {
            let client = client.map(tracing::field::display);
            tracing::warn!(reason, client, times, "refusing requests that are over a limit");
        }
    }

    pub(super) fn foreign_position(&self) {
        if let Some(times) = self.foreign.due() {
            tracing::warn!(
                times,
                "clients come with positions of a hub that was started later and has a log of its \
                 own; behind one balancer each loses the events of the other: share one log (--backend)"
            );
        }
    }

    pub(super) fn closed_http2(&self, reason: &str, peer: IpAddr) {
        if let Some(times) = self.http2.due() {
            tracing::warn!(reason, %peer, times, "closing HTTP/2 connections for what clients do");
        }
    }
}
