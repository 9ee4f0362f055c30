//! Counts requests that front doors reject, and logs each kind at most once a second.

use std::net::IpAddr;

use super::handle::Hub;

impl Hub {
    /// Counts a rejected token, by reason.
    pub fn count_refused_token(&self, reason: &'static str) {
        self.0.metrics.tokens_refused.count(reason);
        self.0.throttled_logs.refused_token(reason);
    }

    /// Counts a request that exceeds a limit, by the limit's name.
    pub(crate) fn count_refused_request(&self, reason: &'static str, client: Option<IpAddr>) {
        self.0.metrics.requests_refused.count(reason);
        self.0.throttled_logs.refused_request(reason, client);
    }

    /// Counts a request of a page whose origin CORS does not allow.
    pub(crate) fn count_foreign_origin(&self) {
        self.0.metrics.foreign_origin_requests.inc();
    }

    /// Counts an HTTP/2 connection that was closed for a fault of its client, by reason.
    pub(crate) fn count_closed_http2(&self, reason: &'static str, peer: IpAddr) {
        self.0.metrics.http2_closed.count(reason);
        self.0.throttled_logs.closed_http2(reason, peer);
    }
}
