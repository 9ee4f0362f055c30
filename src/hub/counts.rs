//! What front doors reject: all of it is counted, and logged once a second at most.

use std::net::IpAddr;

use super::handle::Hub;
use crate::telemetry::Metrics;

impl Hub {
    /// Counts a token that a front door has refused, by its reason.
    pub fn count_refused_token(&self, reason: &'static str) {
        Metrics::count(&self.0.metrics.tokens_refused, reason);
        self.0.throttled_logs.refused_token(reason);
    }

    /// Counts a request that is over a limit, by the name of that.
    pub(crate) fn count_refused_request(&self, reason: &'static str, client: Option<IpAddr>) {
        Metrics::count(&self.0.metrics.requests_refused, reason);
        self.0.throttled_logs.refused_request(reason, client);
    }

    /// Counts a request of a page of an origin that CORS does not name.
    pub(crate) fn count_foreign_origin(&self) {
        self.0.metrics.foreign_origin_requests.inc();
    }

    /// Counts an HTTP/2 connection closed for what its client did, by its reason.
    pub(crate) fn count_closed_http2(&self, reason: &'static str, peer: IpAddr) {
        Metrics::count(&self.0.metrics.http2_closed, reason);
        self.0.throttled_logs.closed_http2(reason, peer);
    }
}
