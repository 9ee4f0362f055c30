//! Keeps web pages of other origins away from a hub on a developer's machine.
//!
//! Without configuration, unsafe `/v1` requests with a foreign `Origin` are 403, and on loopback a
//! foreign `Host` is 421: a page cannot reach the hub by a name it made resolve to 127.0.0.1.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{LocalAddress, Problem, Secure, routes::HttpState};

/// Checks a request before any handler sees it.
pub(super) async fn check(
    State(state): State<HttpState>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = examine(&state, &request) {
        return problem.into_response();
    }
    let is_v1 = request.uri().path().starts_with("/v1/");
    let mut response = next.run(request).await;
    if is_v1 {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

fn examine(state: &HttpState, request: &Request) -> Result<(), Problem> {
    check_head_size(request)?;
    let host = host(request)?;
    let on_loopback =
        request.extensions().get::<LocalAddress>().is_some_and(|local| local.0.ip().is_loopback());
    if on_loopback
        && let Some(host) = host
        && !is_loopback_name(host_name(host))
        && !state
            .settings
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host_name(host)))
    {
        let detail = format!("this hub is not at `{host}`; name the host in `allowed_hosts`");
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).with("field", "Host"));
    }
    if !request.method().is_safe()
        && request.uri().path().starts_with("/v1/")
        && let Some(origin) = request.headers().get(header::ORIGIN)
        && !is_same_origin(origin, host, is_secure(request))
        && !is_listed(state, origin)
    {
        let detail = "pages of this origin may not publish here";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail).with("field", "Origin"));
    }
    Ok(())
}

/// The HTTP server's own bound is a matter of how its buffer grows; this one is exact.
fn check_head_size(request: &Request) -> Result<(), Problem> {
    if request.headers().len() > HEADERS_MAX {
        let detail = format!("a request has at most {HEADERS_MAX} fields");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            .with("field", "head")
            .with("fields_max", HEADERS_MAX));
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let bytes: usize = target + fields.sum::<usize>();
    if bytes > HEAD_BYTES_MAX {
        let detail =
            format!("the target and fields of a request have at most {HEAD_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            .with("field", "head")
            .with("bytes_max", HEAD_BYTES_MAX));
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

fn is_loopback_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Fields of a request; more are 431. HTTP/1's own parser holds to it as well.
const HEADERS_MAX: usize = 100;
/// Bytes of a request's target, field names and values together; more are 431.
const HEAD_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
