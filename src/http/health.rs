//! Liveness, readiness, metrics.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Problem, routes::HttpState};

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// It takes work.
pub(super) async fn readyz(State(state): State<HttpState>) -> Response {
    if state.hub.is_ready() {
        return "ready\n".into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is going down").into_response()
}

/// For Prometheus.
pub(super) async fn metrics(State(state): State<HttpState>) -> Response {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, media_type)], state.hub.metrics()).into_response()
}
