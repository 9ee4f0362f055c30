//! The console page and the browser client, embedded in the binary.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::security_headers::CROSS_ORIGIN_RESOURCE_POLICY;

pub(super) fn page() -> Response {
    asset("text/html; charset=utf-8", include_str!("console/index.html"))
}

pub(super) fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("console/console.css"))
}

pub(super) fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("console/console.js"))
}

pub(super) fn icon() -> Response {
    asset("image/svg+xml", include_str!("console/favicon.svg"))
}

/// The client may be imported by pages of any origin.
pub(super) fn client() -> Response {
    let mut response = asset("text/javascript; charset=utf-8", include_str!("console/visnyk.js"));
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    response
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // The address of the console may name channels.
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

/// The page loads the hub's own files alone, and takes no text for script or markup: it shows data
/// of other clients, and its token field holds a secret.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
