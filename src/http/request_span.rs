//! The span of a request that is traced, from its head until its answer is made.

use axum::{
    extract::Request,
    http::{StatusCode, Version},
};

use super::{page_origin::is_secure, request_checks::RequestChecks};
use crate::telemetry::RequestFacts;

/// What the span says of a request, which its handler consumes. It has nothing of one that is not
/// traced.
#[derive(Debug)]
pub(super) struct RequestSpan(Option<Box<Facts>>);

#[derive(Debug)]
struct Facts {
    path: String,
    scheme: &'static str,
    version: &'static str,
}

impl RequestSpan {
    /// Of a request.
    pub(super) fn of(checks: &RequestChecks, request: &Request) -> Self {
        let is_traced = checks.trace.as_ref().is_some_and(|trace| trace.publish.is_some());
        Self(is_traced.then(|| {
            Box::new(Facts {
                path: request.uri().path().to_owned(),
                scheme: if is_secure(request) { "https" } else { "http" },
                version: match request.version() {
                    Version::HTTP_10 => "1.0",
                    Version::HTTP_2 => "2",
                    _ => "1.1",
                },
            })
        }))
    }

    /// Records it, with the status of the answer.
    pub(super) fn end(self, checks: &RequestChecks, status: StatusCode) {
        let (Some(facts), Some(trace)) = (self.0, &checks.trace) else { return };
        let Some(publish) = &trace.publish else { return };
        publish.request_ended(RequestFacts {
            // Only publishes are traced.
            method: "POST",
            route: checks.path_of_route(),
            path: &facts.path,
            scheme: facts.scheme,
            version: facts.version,
            client: checks.client.map(|client| client.ip()),
            request_id: checks.request_id.to_string(),
            status: status.as_u16(),
        });
    }
}
