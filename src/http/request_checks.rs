//! Checks every request before a handler gets it, and adds the common headers to every answer.
//!
//! `Host` is always checked on loopback; elsewhere only if `allowed_hosts` lists hosts. A request
//! with one that is not allowed is rejected with 421. This prevents DNS rebinding, where the page
//! of an attacker makes its own host name resolve to the hub's address. Health checks are exempt,
//! since probes name an IP address. Routes whose exposure requires it reject requests of foreign
//! pages with 403 (`page_origin`).

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    LocalAddress, Problem,
    answer_marks::AnswerMarks,
    answers::{SMALL_BYTES_MAX, with_answer_permit},
    authority::{address, is_same_host},
    cors::Sharing,
    event_headers::poll_headers,
    handoff::{Outcome, Reply, poll_response},
    head_limits::check_head_size,
    page_origin::{check_page, host, is_own_origin, is_secure},
    problem::CountedAs,
    request_id::RequestId,
    route_policy::{Exposure, Route},
    state::HttpState,
};
use crate::{
    hub::Hub,
    model::ClientAddress,
    telemetry::{RequestTrace, RouteClass, TraceId},
};

/// What the checks found in a request, which also decides the headers of its answer.
#[derive(Debug)]
pub(super) struct RequestChecks {
    /// The row in the table of routes; `None` for a path without a route.
    route: Option<&'static Route>,
    /// The marks of the answer. The request's id is added later, by `complete`, except where polls
    /// share an answer.
    marks: AnswerMarks,
    exposure: Exposure,
    is_safe: bool,
    pub(super) request_id: RequestId,
    is_logged: bool,
    pub(super) client: Option<ClientAddress>,
    /// Its trace, if it is sampled.
    pub(super) trace: Option<RequestTrace>,
}

impl RequestChecks {
    /// Examines a request. A path without a route is checked like the API.
    pub(super) fn of(
        state: &HttpState,
        request: &Request,
        route: Option<&'static Route>,
        class: RouteClass,
    ) -> Self {
        let settings = &state.settings;
        let exposure = route.map_or(Exposure::Api, |route| route.exposure);
        let has_hsts = settings.hsts_max_age_s > 0 && is_secure(request);
        let origin = request.headers().get(header::ORIGIN);
        Self {
            route,
            marks: AnswerMarks {
                sharing: Sharing::of(&settings.cors, exposure.cors_class(), origin),
                hsts_s: has_hsts.then_some(settings.hsts_max_age_s),
                request_id: None,
            },
            exposure,
            is_safe: request.method().is_safe(),
            request_id: RequestId::of(request.headers()),
            is_logged: settings.access_log,
            client: request.extensions().get::<ClientAddress>().copied(),
            trace: settings
                .tracer
                .as_ref()
                .and_then(|tracer| tracer.begin(request.headers(), class == RouteClass::Publish)),
        }
    }

    /// The answer to a request that needs no handler: a rejection, which is counted, or the answer
    /// to a preflight or `OPTIONS`. `None` if the handler is to serve the request.
    pub(super) fn early_answer(&self, state: &HttpState, request: &Request) -> Option<Response> {
        let answer = match self.validate(state, request) {
            Err(problem) => Some(self.with_ids(problem).into_response()),
            Ok(()) => {
                let methods = self.route.map(|route| route.allow);
                let preflight =
                    self.marks.sharing.preflight(&state.settings.cors, request, methods);
                preflight.or_else(|| self.options(request))
            }
        };
        if let Some(answer) = &answer {
            self.count_rejection(&state.hub, answer);
        }
        answer
    }

    /// The answer to `OPTIONS`, for one route or for `*` (RFC 9110, section 9.3.7).
    fn options(&self, request: &Request) -> Option<Response> {
        if request.method() != Method::OPTIONS {
            return None;
        }
        let allow = match self.route {
            Some(route) => route.allow,
            None if request.uri().path() == "*" => "GET, HEAD, POST, DELETE, OPTIONS",
            None => return None,
        };
        Some((StatusCode::NO_CONTENT, [(header::ALLOW, allow)]).into_response())
    }

    fn validate(&self, state: &HttpState, request: &Request) -> Result<(), Problem> {
        check_head_size(&state.hub.limits().requests, request)?;
        let host = host(request)?;
        let local = request.extensions().get::<LocalAddress>();
        let on_loopback = local.is_some_and(|local| local.0.ip().to_canonical().is_loopback());
        if let Some(host) = host
            && self.exposure.checks_host()
            && !is_allowed_host(host.host(), on_loopback, &state.settings.allowed_hosts)
        {
            let host = host.as_str();
            let detail = format!("this hub is not at `{host}`; name the host in `allowed_hosts`");
            let problem = Problem::new(StatusCode::MISDIRECTED_REQUEST, detail);
            return Err(problem.with("field", "Host").page_refused("host"));
        }
        // Only counted and logged: `check_page` decides.
        if (self.exposure, &self.marks.sharing) == (Exposure::Api, &Sharing::Unlisted)
            && let Some(origin) = request.headers().get(header::ORIGIN)
            && !origin.to_str().is_ok_and(|origin| is_own_origin(request, origin))
        {
            state.hub.count_foreign_origin();
            state.foreign_origins.log_once(origin);
        }
        if self.exposure.rejects_foreign_pages() && !self.marks.sharing.is_shared() {
            let waits_for_events = self.route.is_some_and(Route::waits_for_events);
            check_page(&state.settings, request, host, waits_for_events)?;
        }
        Ok(())
    }

    /// Adds the ids of the request and of its trace to a problem document.
    pub(super) fn with_ids(&self, problem: Problem) -> Problem {
        problem.with_request_id(&self.request_id).with_trace_id(self.trace_id())
    }

    /// The path of the route, with `{channel}` for a name; empty for a path without a route.
    pub(super) fn path_of_route(&self) -> &'static str {
        self.route.map_or("", |route| route.path)
    }

    /// The id of the trace, if the request is sampled.
    pub(super) fn trace_id(&self) -> Option<TraceId> {
        self.trace.as_ref().map(|trace| trace.id)
    }

    /// Completes the outcome of a handler: counts a rejection, reserves memory for a large answer,
    /// and adds the common headers.
    pub(super) fn complete(&self, hub: &Hub, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Response(response) => {
                self.count_rejection(hub, &response);
                let mut response = with_answer_permit(hub, self.client, response);
                self.request_id.add_header(response.headers_mut());
                self.add_headers(response.headers_mut());
                Outcome::Response(response)
            }
            // A larger one needs a permit.
            Outcome::Reply(Reply { reply, .. }) if reply.body.len() as u64 > SMALL_BYTES_MAX => {
                self.complete(hub, Outcome::Response(poll_response(poll_headers(), reply)))
            }
            Outcome::Reply(mut reply) => {
                let request_id = Some(self.request_id.clone());
                reply.marks = AnswerMarks { request_id, ..self.marks.clone() };
                Outcome::Reply(reply)
            }
            Outcome::Handoff(mut handoff) => {
                // Polls with the same response head share one encoded answer. An id of the hub's
                // own for each request would give each a different head; with an access log it is
                // needed, to find the request there.
                let sends_id = !handoff.is_poll || !self.request_id.is_own() || self.is_logged;
                let request_id = sends_id.then(|| self.request_id.clone());
                handoff.marks = AnswerMarks { request_id, ..self.marks.clone() };
                Outcome::Handoff(handoff)
            }
        }
    }

    /// Counts a rejection by the reason that its [`Problem`] has attached to the response.
    fn count_rejection(&self, hub: &Hub, response: &Response) {
        match response.extensions().get() {
            Some(CountedAs::LimitExceeded(limit)) => {
                hub.count_refused_request(limit, self.client.map(|client| client.ip()));
            }
            Some(CountedAs::AuthRefused(why)) => hub.counters().auth_refused.count(why),
            Some(CountedAs::PageRefused(why)) => hub.counters().pages_refused.count(why),
            None => {}
        }
    }

    /// Adds the headers that every answer has, except the request's id.
    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        self.marks.add_to(headers);
        // An answer to an unsafe method needs no `no-store`, since caches do not store it.
        if (self.is_safe || !self.exposure.rejects_foreign_pages())
            && !headers.contains_key(header::CACHE_CONTROL)
        {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

/// Whether a request may have this `Host`. Names that the settings list are always allowed. On
/// loopback the names of this machine are allowed too; elsewhere all names are, if none is listed.
fn is_allowed_host(name: &str, on_loopback: bool, listed: &[String]) -> bool {
    let name = without_dot(name);
    let is_unlisted_allowed = if on_loopback { is_loopback_name(name) } else { listed.is_empty() };
    is_unlisted_allowed || listed.iter().any(|listed| is_same_host(without_dot(listed), name))
}

/// A name without the dot of an absolute one (RFC 1034, section 3.1).
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether a name stands for this machine.
fn is_loopback_name(name: &str) -> bool {
    let end = name.len().saturating_sub(SUBDOMAINS.len());
    name.eq_ignore_ascii_case("localhost")
        || name.as_bytes()[end..].eq_ignore_ascii_case(SUBDOMAINS)
        || address(name).is_some_and(|address| address.is_loopback())
}

/// How the names of subdomains of `localhost` end.
const SUBDOMAINS: &[u8] = b".localhost";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_allowed_if_it_is_listed_or_by_the_default_of_its_listener() {
        let named = ["hub.example.", "192.0.2.1", "2001:db8:0::1"].map(str::to_owned);
        for (name, bare_loopback, bare, named_loopback, named_elsewhere) in [
            ("localhost", true, true, true, false),
            ("127.0.0.1", true, true, true, false),
            ("hub.example", false, true, true, true),
            ("HUB.example", false, true, true, true),
            ("hub.example.", false, true, true, true),
            ("192.0.2.1", false, true, true, true),
            ("::ffff:192.0.2.1", false, true, true, true),
            ("2001:DB8::1", false, true, true, true),
            ("2001:db8::2", false, true, false, false),
            ("evil.example", false, true, false, false),
            ("a.hub.example", false, true, false, false),
        ] {
            assert_eq!(is_allowed_host(name, true, &[]), bare_loopback, "{name}");
            assert_eq!(is_allowed_host(name, false, &[]), bare, "{name}");
            assert_eq!(is_allowed_host(name, true, &named), named_loopback, "{name}");
            assert_eq!(is_allowed_host(name, false, &named), named_elsewhere, "{name}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "LOCALHOST",
            "a.localhost",
        ] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in ["example.com", "127.0.0.1.example.com", "localhost.example.com", ""] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
