//! The origin of the web page that sends a request, as the browser reports it in `Origin` and
//! `Sec-Fetch-Site`.
//!
//! A page can neither set nor remove these fields. Browsers send `Origin` with every request that
//! has an unsafe method, and `Sec-Fetch-Site` with every request to this machine or over TLS.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, Version, header},
};

use super::{
    HttpSettings, LocalAddress, Problem, Secure,
    authority::{Authority, default_port},
};

/// Rejects requests of pages whose origin is neither the hub's own nor listed: requests with an
/// unsafe method, and those that the browser marks as cross-site or same-site. Such a page could
/// not read the answer to a safe method, but its time of arrival would reveal when events come.
pub(super) fn check_page(
    settings: &HttpSettings,
    request: &Request,
    host: Option<Authority<'_>>,
    waits_for_events: bool,
) -> Result<(), Problem> {
    let origin = request.headers().get(header::ORIGIN);
    if is_from_own_page(request)
        || origin.is_some_and(|origin| {
            is_same_origin(origin, host, is_secure(request)) || is_cookie_origin(settings, origin)
        })
    {
        return Ok(());
    }
    let field = match origin {
        Some(_) if !request.method().is_safe() => "Origin",
        _ if is_from_foreign_page(request, waits_for_events) => FETCH_SITE_SHOWN,
        _ => return Ok(()),
    };
    let detail = "pages of this origin may not do this; `cors_origins` names those that may";
    Err(Problem::new(StatusCode::FORBIDDEN, detail).with("field", field).page_refused("page"))
}

/// Whether a page of another origin sends a request, as the browser reports it (Fetch Metadata).
///
/// A navigation, such as to a link, does not count, since only the user sees the answer. On a route
/// that waits for events it counts: a page that opens a window notices when the answer arrives.
pub(super) fn is_from_foreign_page(request: &Request, waits_for_events: bool) -> bool {
    let headers = request.headers();
    let is_foreign =
        headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site");
    is_foreign
        && !(request.method().is_safe()
            && headers.get("sec-fetch-dest").is_some_and(|destination| destination == "document")
            && !waits_for_events)
}

/// Whether the browser reports that a page of the hub's own origin sends the request. This is more
/// reliable than a comparison of `Origin` with `Host`, whose port a proxy may remove.
fn is_from_own_page(request: &Request) -> bool {
    request.headers().get(FETCH_SITE).is_some_and(|site| site == "same-origin")
}

/// The authority of a request: that of its target, or else of its `Host` field (RFC 9112, section
/// 3.2). Rejects two `Host` fields, and an invalid one. The hub's own server also rejects an
/// HTTP/1.1 request without `Host`. Over HTTP/2 a `Host` that differs from `:authority` is rejected
/// (RFC 9113, section 8.3.1).
pub(super) fn host(request: &Request) -> Result<Option<Authority<'_>>, Problem> {
    let refuse = || Problem::field("Host", "a request has exactly one `Host`, a name and a port");
    let mut fields = request.headers().get_all(header::HOST).iter();
    let parse = |text| Authority::parse(text).ok_or_else(refuse);
    let field = match fields.next() {
        Some(field) => Some(parse(field.to_str().map_err(|_| refuse())?)?),
        None => None,
    };
    let in_own_server = request.extensions().get::<LocalAddress>().is_some();
    let is_missing = field.is_none() && in_own_server && request.version() == Version::HTTP_11;
    if fields.next().is_some() || is_missing {
        return Err(refuse());
    }
    let uri = request.uri();
    let Some(target) = uri.authority() else { return Ok(field) };
    let target = parse(target.as_str())?;
    let port = uri.scheme_str().and_then(default_port).unwrap_or_default();
    let differs = field.is_some_and(|field| !field.is_same(&target, port));
    if differs && request.version() == Version::HTTP_2 {
        return Err(Problem::field("Host", "`Host` is not what `:authority` is"));
    }
    Ok(Some(target))
}

/// Whether an origin is the hub's own, by `Sec-Fetch-Site` or by comparison with `Host`.
pub(super) fn is_own_origin(request: &Request, origin: &str) -> bool {
    let is_of_host = || {
        let (Ok(origin), Ok(host)) = (HeaderValue::from_str(origin), host(request)) else {
            return false;
        };
        is_same_origin(&origin, host, is_secure(request))
    };
    is_from_own_page(request) || is_of_host()
}

/// Whether the origin is in `cookie_origins`. Its pages may send unsafe requests with a cookie, and
/// so with any other token too.
fn is_cookie_origin(settings: &HttpSettings, origin: &HeaderValue) -> bool {
    let listed = &settings.access.cookie_origins;
    origin.to_str().is_ok_and(|origin| listed.iter().any(|listed| listed == origin))
}

/// Whether an origin is that of a host. Over TLS its scheme must be `https`. Without TLS it may
/// also be `http`, since a proxy in front may terminate TLS.
fn is_same_origin(origin: &HeaderValue, host: Option<Authority<'_>>, is_secure: bool) -> bool {
    let parts = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let (Some((scheme, authority)), Some(host)) = (parts, host) else { return false };
    let (authority, port) = (Authority::parse(authority), default_port(scheme));
    let (Some(authority), Some(port)) = (authority, port) else { return false };
    authority.is_same(&host, port) && (!is_secure || scheme == "https")
}

/// Whether the request came over TLS.
pub(super) fn is_secure(request: &Request) -> bool {
    request.extensions().get::<Secure>().is_some()
}

/// Fetch Metadata: the relation of the page's origin to the hub's.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The name of the field in a problem document.
const FETCH_SITE_SHOWN: &str = "Sec-Fetch-Site";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_the_schemes_own_may_be_left_out() {
        for (origin, host, expected) in [
            ("https://hub.example", "hub.example:443", true),
            ("http://hub.example", "hub.example:80", true),
            ("https://hub.example", "hub.example:80", false),
            ("http://hub.example", "hub.example:443", false),
            ("https://hub.example:8443", "hub.example:8443", true),
            ("https://hub.example:8443", "hub.example", false),
            ("ftp://hub.example", "hub.example", false),
        ] {
            let own =
                is_same_origin(&HeaderValue::from_static(origin), Authority::parse(host), false);
            assert_eq!(own, expected, "{origin} {host}");
        }
    }

    #[test]
    fn over_tls_a_page_loaded_without_is_foreign() {
        let is_own = |origin, is_secure| {
            let host = Authority::parse("hub.example");
            is_same_origin(&HeaderValue::from_static(origin), host, is_secure)
        };
        assert!(is_own("https://hub.example", true) && is_own("https://HUB.example", true));
        assert!(!is_own("http://hub.example", true));
        // Without TLS here, a proxy in front may terminate it.
        assert!(is_own("http://hub.example", false) && is_own("https://hub.example", false));
        assert!(!is_own("https://hub.example.evil.example", true) && !is_own("null", false));
    }
}
