//! Headers of every answer that tell a browser how to treat it.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Tells a browser to use TLS alone from now on (RFC 6797, section 6.1).
pub(super) fn add_hsts(headers: &mut HeaderMap, max_age_s: u32) {
    let value = HeaderValue::try_from(format!("max-age={max_age_s}")).expect("a number is ASCII");
    headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
}

/// `nosniff`, and a resource policy against pages of other origins that embed the answer as an
/// image, a script or the like.
pub(super) fn add_security_headers(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CROSS_ORIGIN_RESOURCE_POLICY) {
        let own = HeaderValue::from_static("same-origin");
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, own);
    }
}

/// Fetch, section 3.7.
pub(super) const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
