//! The origin of the web page that sends a request, as far as the browser says.
//!
//! A page cannot hide what it is: browsers send `Origin` with every request that may change
//! something, and `Sec-Fetch-Site` with every request to this machine or over TLS.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, Version, header},
};

use super::{HttpSettings, LocalAddress, Problem, Secure};

/// Rejects requests of pages that are neither the hub's own nor listed: with a foreign `Origin`
/// those that may change something, and without CORS all. Such a page could not read the answer,
/// but its time of arrival says when events come.
pub(super) fn check_page(
    settings: &HttpSettings,
    request: &Request,
    host: Option<&str>,
    waits_for_events: bool,
) -> Result<(), Problem> {
    let origin = request.headers().get(header::ORIGIN);
    if origin.is_some_and(|origin| {
        is_same_origin(origin, host, is_secure(request)) || is_listed(settings, origin)
    }) {
        return Ok(());
    }
    let field = match origin {
        Some(_) if !request.method().is_safe() => "Origin",
        _ if is_from_foreign_page(request, waits_for_events) => SITE,
        _ => return Ok(()),
    };
    let detail = "pages of this origin may not do this; `cors_origins` names those that may";
    Err(Problem::new(StatusCode::FORBIDDEN, detail).with("field", field))
}

/// Whether a page of another origin sends a request, as far as the browser says (Fetch Metadata).
///
/// Following a link is not such a request: its answer is shown to the user alone. But a page that
/// opens a window sees when the answer comes, so a link to a route that waits for events counts.
pub(super) fn is_from_foreign_page(request: &Request, waits_for_events: bool) -> bool {
    let headers = request.headers();
    let is_foreign =
        headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site");
    is_foreign
        && !(request.method().is_safe()
            && headers.get("sec-fetch-dest").is_some_and(|destination| destination == "document")
            && !waits_for_events)
}

/// The host that a request is for: of an absolute target, or of the one `Host` field. Two fields are
/// rejected, and so is a request without one over the hub's own server (RFC 9112, section 3.2).
pub(super) fn host(request: &Request) -> Result<Option<&str>, Problem> {
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
fn is_listed(settings: &HttpSettings, origin: &HeaderValue) -> bool {
    let listed = &settings.access.cookie_origins;
    origin.to_str().is_ok_and(|origin| listed.iter().any(|listed| listed == origin))
}

/// Over TLS, a page loaded over plain HTTP is of another origin. Without TLS here, a proxy in front
/// may terminate it.
fn is_same_origin(origin: &HeaderValue, host: Option<&str>, is_secure: bool) -> bool {
    let parts = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let (Some((scheme, authority)), Some(host)) = (parts, host) else { return false };
    authority.eq_ignore_ascii_case(host) && (!is_secure || scheme.eq_ignore_ascii_case("https"))
}

pub(super) fn is_secure(request: &Request) -> bool {
    request.extensions().get::<Secure>().is_some()
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The field that says how near the page is to the hub.
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
}
