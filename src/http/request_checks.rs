//! Keeps web pages of other origins away from a hub, but for what they are let in to.
//!
//! A page cannot hide what it is: browsers send `Origin` with whatever may change something, and
//! `Sec-Fetch-Site` with all that goes to this machine or over TLS. So unsafe requests with a
//! foreign `Origin` are 403, and so is whatever a foreign page asks for without CORS: it could not
//! read the answer, but would learn from its coming when events come. On loopback, and wherever the
//! settings name hosts, a foreign `Host` is 421: a page cannot reach the hub by a name it made
//! resolve to it.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    AccessPolicy, LocalAddress, Problem, ROUTES, Secure, cors::Sharing, problem::LimitExceeded,
    routes::HttpState, with_answer_permit,
};
use crate::{core::RequestLimits, hub::Hub, model::ClientAddress};

/// Checks a request before any handler sees it, and says of every answer whose pages may read it.
pub(super) async fn check(
    State(state): State<HttpState>,
    request: Request,
    next: Next,
) -> Response {
    let checked = RequestChecks::of(&state, &request);
    match checked.refusal(&state, &request) {
        Some(refusal) => checked.mark(refusal),
        None => checked.answer(&state.hub, next.run(request).await),
    }
}

/// What the answer to a request has to say, whatever it is.
#[derive(Debug)]
pub(super) struct RequestChecks {
    sharing: Sharing,
    hsts_s: Option<u32>,
    /// The answer is of its moment and for whoever asked. Of other methods nobody keeps a copy
    /// anyway.
    is_private: bool,
    client: Option<ClientAddress>,
}

impl RequestChecks {
    /// Looks at a request. It is let through unless there is a [`refusal`](Self::refusal).
    pub(super) fn of(state: &HttpState, request: &Request) -> Self {
        let settings = &state.settings;
        let path = request.uri().path();
        let has_hsts = settings.hsts_max_age_s > 0 && is_secure(request);
        Self {
            sharing: Sharing::of(settings, path, request.headers().get(header::ORIGIN)),
            hsts_s: has_hsts.then_some(settings.hsts_max_age_s),
            is_private: request.method().is_safe() && is_own_pages_path(path),
            client: request.extensions().get::<ClientAddress>().copied(),
        }
    }

    /// The answer to what no handler is to see: a refusal, or the answer to a preflight.
    pub(super) fn refusal(&self, state: &HttpState, request: &Request) -> Option<Response> {
        match validate(state, request, &self.sharing) {
            Err(problem) => {
                let response = problem.into_response();
                self.count(&state.hub, &response);
                Some(response)
            }
            Ok(()) => self.sharing.preflight(&state.settings, request),
        }
    }

    /// The answer of a handler as it goes out, if there is room for it.
    pub(super) fn answer(&self, hub: &Hub, response: Response) -> Response {
        self.count(hub, &response);
        self.mark(with_answer_permit(hub, self.client, response))
    }

    /// Counts a refusal of what is past a bound.
    fn count(&self, hub: &Hub, response: &Response) {
        if let Some(LimitExceeded(bound)) = response.extensions().get() {
            hub.count_refused_request(bound, self.client.map(|client| client.ip()));
        }
    }

    /// Says it of an answer.
    pub(super) fn mark(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        self.sharing.mark(headers);
        add_security_headers(headers);
        if self.is_private && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(max_age_s) = self.hsts_s {
            add_hsts(headers, max_age_s);
        }
        response
    }
}

/// Tells a browser to come over TLS only from now on (RFC 6797, section 6.1).
pub(super) fn add_hsts(headers: &mut HeaderMap, max_age_s: u32) {
    let value = HeaderValue::try_from(format!("max-age={max_age_s}")).expect("a number is ASCII");
    headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
}

/// What every answer says: that it is what its media type says, and that no other origin's page may
/// put it into itself as an image, a script or the like.
pub(super) fn add_security_headers(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CROSS_ORIGIN_RESOURCE_POLICY) {
        let own = HeaderValue::from_static("same-origin");
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, own);
    }
}

fn validate(state: &HttpState, request: &Request, sharing: &Sharing) -> Result<(), Problem> {
    check_head_size(&state.hub.limits().requests, request)?;
    let host = host(request)?;
    let local = request.extensions().get::<LocalAddress>();
    let on_loopback = local.is_some_and(|local| local.0.ip().to_canonical().is_loopback());
    if let Some(host) = host
        && !is_allowed_host(host_name(host), on_loopback, &state.settings.allowed_hosts)
    {
        let detail = format!("this hub is not at `{host}`; name the host in `allowed_hosts`");
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).with("field", "Host"));
    }
    if !sharing.is_shared() && is_own_pages_path(request.uri().path()) {
        check_page(state, request, host)?;
    }
    Ok(())
}

/// Refuses pages that are neither the hub's own nor listed.
fn check_page(state: &HttpState, request: &Request, host: Option<&str>) -> Result<(), Problem> {
    let origin = request.headers().get(header::ORIGIN);
    if origin.is_some_and(|origin| {
        is_same_origin(origin, host, is_secure(request)) || is_listed(state, origin)
    }) {
        return Ok(());
    }
    let field = match origin {
        Some(_) if !request.method().is_safe() => "Origin",
        _ if is_from_foreign_page(request) => SITE,
        _ => return Ok(()),
    };
    let detail = "pages of this origin may not do this; `cors_origins` names those that may";
    Err(Problem::new(StatusCode::FORBIDDEN, detail).with("field", field))
}

/// Routes that tell or change something of events.
fn is_own_pages_path(path: &str) -> bool {
    ["/v1/", "/metrics", "/faults/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Whether another origin's page asks, as far as the browser says (Fetch Metadata).
///
/// Who follows a link is no page: the answer is shown to them alone. But a page that opened a
/// window sees when its answer comes, so nobody follows one to what waits for events.
pub(super) fn is_from_foreign_page(request: &Request) -> bool {
    let headers = request.headers();
    let is_foreign =
        headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site");
    is_foreign
        && !(request.method().is_safe()
            && headers.get("sec-fetch-dest").is_some_and(|destination| destination == "document")
            && !is_event_route(request.uri().path()))
}

fn is_event_route(path: &str) -> bool {
    ROUTES.iter().any(|route| route.access == AccessPolicy::Subscribers && route.matches(path))
}

/// The HTTP server's own bound is a matter of how its buffer grows; this one is exact.
fn check_head_size(limits: &RequestLimits, request: &Request) -> Result<(), Problem> {
    // HTTP/1's own parser holds to it as well.
    if request.headers().len() > limits.fields_max as usize {
        let fields_max = limits.fields_max;
        let detail = format!("a request has at most {fields_max} fields");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            .with("field", "head")
            .with("fields_max", fields_max)
            .limit_exceeded("too_many_fields"));
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.target_bytes_max as usize {
        let bytes_max = limits.target_bytes_max;
        let detail = format!("the target of a request has at most {bytes_max} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, detail)
            .with("field", "target")
            .with("bytes_max", bytes_max)
            .limit_exceeded("target_too_long"));
    }
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let bytes: usize = target + fields.sum::<usize>();
    if bytes > limits.head_bytes_max as usize {
        let bytes_max = limits.head_bytes_max;
        let detail = format!("the target and fields of a request have at most {bytes_max} bytes");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            .with("field", "head")
            .with("bytes_max", bytes_max)
            .limit_exceeded("head_too_large"));
    }
    Ok(())
}

/// The host a request is for: an absolute target says it, else the one `Host` field. Two fields,
/// or none on a connection of our own, are refused (RFC 9112, section 3.2).
fn host(request: &Request) -> Result<Option<&str>, Problem> {
    let refuse = || Problem::field("Host", "a request has exactly one `Host`, a name and a port");
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next().map(HeaderValue::to_str).transpose().map_err(|_| refuse())?;
    let is_ours = request.extensions().get::<LocalAddress>().is_some();
    let is_missing = field.is_none() && is_ours && request.version() == Version::HTTP_11;
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = authority.or(field);
    // In `localhost:1@evil.example`, what looks like the name is not.
    if fields.next().is_some() || is_missing || host.is_some_and(|host| host.contains('@')) {
        return Err(refuse());
    }
    Ok(host)
}

/// Whether an origin is the one that a request came to, as far as its `Host` says.
pub(super) fn is_own_origin(request: &Request, origin: &str) -> bool {
    let origin = HeaderValue::from_str(origin);
    let host = host(request);
    matches!((origin, host), (Ok(origin), Ok(host)) if is_same_origin(&origin, host, is_secure(request)))
}

/// Pages of these origins may change things with a cookie, and so with any other token.
fn is_listed(state: &HttpState, origin: &HeaderValue) -> bool {
    let listed = &state.settings.access.cookie_origins;
    origin.to_str().is_ok_and(|origin| listed.iter().any(|listed| listed == origin))
}

/// Over TLS a page that came without it is of another origin. Without, there may be a proxy in
/// front that speaks TLS for the hub.
fn is_same_origin(origin: &HeaderValue, host: Option<&str>, is_secure: bool) -> bool {
    let parts = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let (Some((scheme, authority)), Some(host)) = (parts, host) else { return false };
    authority.eq_ignore_ascii_case(host) && (!is_secure || scheme.eq_ignore_ascii_case("https"))
}

fn is_secure(request: &Request) -> bool {
    request.extensions().get::<Secure>().is_some()
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether a hub may be called by a name: on loopback by those of this machine, and otherwise by
/// any if the settings name none.
fn is_allowed_host(name: &str, on_loopback: bool, allowed: &[String]) -> bool {
    let is_free = if on_loopback { is_loopback_name(name) } else { allowed.is_empty() };
    is_free || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

fn is_loopback_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Fetch, section 3.7.
pub(super) const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// How near the page that asks is to the hub.
const SITE: &str = "Sec-Fetch-Site";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tls_a_page_loaded_without_is_foreign() {
        let is_own = |origin, is_secure| {
            is_same_origin(&HeaderValue::from_static(origin), Some("hub.example"), is_secure)
        };
        assert!(is_own("https://hub.example", true) && is_own("https://HUB.example", true));
        assert!(!is_own("http://hub.example", true));
        // Without, there may be a proxy in front that speaks TLS.
        assert!(is_own("http://hub.example", false) && is_own("https://hub.example", false));
        assert!(!is_own("https://hub.example.evil.example", true) && !is_own("null", false));
    }

    #[test]
    fn only_listed_hosts_are_allowed_and_beyond_loopback_any_if_none_is_listed() {
        let named = ["hub.example".to_owned(), "192.0.2.1".to_owned()];
        for (name, bare_loopback, bare, named_loopback, named_elsewhere) in [
            ("localhost", true, true, true, false),
            ("127.0.0.1", true, true, true, false),
            ("hub.example", false, true, true, true),
            ("HUB.example", false, true, true, true),
            ("192.0.2.1", false, true, true, true),
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
        for host in ["localhost:3000", "127.0.0.1:3000", "127.1.2.3", "[::1]:3000", "LOCALHOST"] {
            assert!(is_loopback_name(host_name(host)), "{host}");
        }
        for host in ["example.com", "127.0.0.1.example.com", "localhost.example.com:3000", ""] {
            assert!(!is_loopback_name(host_name(host)), "{host}");
        }
    }
}
