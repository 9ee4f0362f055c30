//! Security headers of every answer, which browsers obey.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Adds `Strict-Transport-Security`: the browser uses only TLS for this host from now on (RFC 6797,
/// section 6.1).
pub(super) fn add_hsts(headers: &mut HeaderMap, max_age_s: u32) {
    let value = HeaderValue::try_from(format!("max-age={max_age_s}")).expect("a number is ASCII");
    headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
}

/// Adds `nosniff`, and a resource policy that prevents pages of other origins from embedding the
/// answer, such as an image or a script.
pub(super) fn add_security_headers(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CROSS_ORIGIN_RESOURCE_POLICY) {
        let own = HeaderValue::from_static("same-origin");
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, own);
    }
}

/// Which origins may embed an answer (WHATWG Fetch, section 3.7).
pub(super) const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
