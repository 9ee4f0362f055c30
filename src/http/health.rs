//! Liveness, readiness, metrics.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    Problem,
    authorization::Action,
    call::{Call, Context, Next},
    handoff::Outcome,
};
use crate::hub::Hub;

/// The process answers.
pub(super) fn healthz() -> Response {
    "ok\n".into_response()
}

/// The hub takes work.
pub(super) fn readyz(hub: &Hub) -> Response {
    if hub.is_ready() {
        return "ready\n".into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is going down").into_response()
}

/// The metrics, for Prometheus.
pub(super) struct Metrics;

impl Call for Metrics {
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let headers = [(header::CONTENT_TYPE, media_type)];
        let response = (headers, context.state.hub.metrics()).into_response();
        Ok(Outcome::Response(response).into())
    }
}
