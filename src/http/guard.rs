//! Keeps web pages of other origins away from a hub on a developer's machine.
//!
//! Without configuration, unsafe `/v1` requests with a foreign `Origin` are 403, and on loopback a
//! foreign `Host` is 421: a page cannot reach the hub by a name it made resolve to 127.0.0.1.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{LocalAddress, Problem, routes::HttpState};

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
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
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
        && !is_same_origin(origin, host)
    {
        let detail = "pages of this origin may not publish here";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail).with("field", "Origin"));
    }
    Ok(())
}

fn is_same_origin(origin: &HeaderValue, host: Option<&str>) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((authority, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
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
