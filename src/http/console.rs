//! The console page and the browser client, embedded in the binary.

use axum::{
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};

pub(super) async fn page() -> Response {
    asset("text/html; charset=utf-8", include_str!("console/index.html"))
}

pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("console/console.css"))
}

pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("console/console.js"))
}

pub(super) async fn icon() -> Response {
    asset("image/svg+xml", include_str!("console/favicon.svg"))
}

/// The client may be imported by pages of any origin.
pub(super) async fn client() -> Response {
    let mut response = asset("text/javascript; charset=utf-8", include_str!("console/visnyk.js"));
    let any = axum::http::HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
    response
}

fn asset(media_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ];
    (headers, text).into_response()
}
