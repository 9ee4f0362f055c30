//! The span of a traced request, from its head until its answer is ready, or until the request is
//! cancelled: over HTTP/2 its client may reset it.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::Request,
    http::{StatusCode, Version},
};

use super::{page_origin::is_secure, request_checks::RequestChecks};
use crate::telemetry::{PublishTrace, RequestFacts};

/// The span of a request, with facts that are copied from the request before its handler consumes
/// it. `None` if the request is not traced. Dropped before its end, it is recorded as cancelled.
#[derive(Debug)]
pub(super) struct RequestSpan(Option<Box<Facts>>);

#[derive(Debug)]
struct Facts {
    trace: Arc<PublishTrace>,
    route: &'static str,
    path: String,
    scheme: &'static str,
    version: &'static str,
    client: Option<IpAddr>,
    request_id: String,
}

impl RequestSpan {
    /// Begins the span of a request.
    pub(super) fn of(checks: &RequestChecks, request: &Request) -> Self {
        let trace = checks.trace.as_ref().and_then(|trace| trace.publish.as_ref());
        Self(trace.map(|trace| {
            Box::new(Facts {
                trace: Arc::clone(trace),
                route: checks.path_of_route(),
                path: request.uri().path().to_owned(),
                scheme: if is_secure(request) { "https" } else { "http" },
                version: match request.version() {
                    Version::HTTP_10 => "1.0",
                    Version::HTTP_2 => "2",
                    _ => "1.1",
                },
                client: checks.client.map(|client| client.ip()),
                request_id: checks.request_id.to_string(),
            })
        }))
    }

    /// Records the span, with the status of the answer.
    pub(super) fn end(mut self, status: StatusCode) {
        if let Some(facts) = self.0.take() {
            facts.record(Some(status));
        }
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if let Some(facts) = self.0.take() {
            facts.record(None);
        }
    }
}

impl Facts {
    fn record(&self, status: Option<StatusCode>) {
        self.trace.request_ended(RequestFacts {
            // Only publishes are traced.
            method: "POST",
            route: self.route,
            path: &self.path,
            scheme: self.scheme,
            version: self.version,
            client: self.client,
            request_id: &self.request_id,
            status: status.map(|status| status.as_u16()),
        });
    }
}
