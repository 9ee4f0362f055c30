//! The routes `/healthz` (liveness), `/readyz` (readiness) and `/metrics`.

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::task::spawn_blocking;

use super::{
    Problem, Role,
    authorization::Action,
    call::{Call, Context, Next},
    state::HttpState,
    weighted_list::weighted_names,
};

/// Liveness: 200 as long as the process answers requests.
pub(super) fn healthz() -> Response {
    "ok\n".into_response()
}

/// Readiness: 503 before and during a drain, while the histories of a shared log are loaded again,
/// and for a hub with the role `ingest` while the server that keeps the log cannot be reached.
pub(super) fn readyz(state: &HttpState) -> Response {
    let hub = &state.hub;
    // A hub that serves subscribers stays ready: if all hubs became unready, the subscribers would
    // have none.
    if state.settings.role == Role::Ingest && hub.is_backend_away() {
        let detail = "the server that keeps the log cannot be reached";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    }
    if hub.is_loading() {
        let detail = "the histories of the shared log are being loaded";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    }
    if hub.is_ready() {
        return "ready\n".into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is going down").into_response()
}

/// `GET /metrics`, for Prometheus.
pub(super) struct Metrics;

impl Call for Metrics {
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let hub = context.state.hub.clone();
        let (media_type, convert): (_, fn(String) -> String) =
            match prefers_openmetrics(&context.parts.headers) {
                true => (OPENMETRICS, |text| text),
                false => (PROMETHEUS, |text| to_prometheus(&text)),
            };
        // Some figures come from the kernel, which may have to count a million open files. This
        // thread serves connections, so a blocking thread collects them.
        let text = spawn_blocking(move || convert(hub.metrics())).await.map_err(|error| {
            tracing::error!(%error, "the metrics could not be collected");
            let detail = "the metrics could not be collected";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
        })?;
        // `Vary`, since the format depends on the request.
        let headers = [(header::CONTENT_TYPE, media_type), (header::VARY, "Accept")];
        Ok(Next::response((headers, text)))
    }
}

/// Whether a client accepts OpenMetrics, with at least the weight of the older text format. `*/*`
/// is that of clients that may know the older one alone.
fn prefers_openmetrics(headers: &HeaderMap) -> bool {
    let accepted: Vec<_> = weighted_names(headers, header::ACCEPT).collect();
    // The most specific range counts (RFC 9110, section 12.5.1); of those with other versions, the
    // one with the highest weight.
    let weight_of = |ranges: &[&str]| {
        let weight_in = |range: &&str| {
            let same = accepted.iter().filter(|(name, _)| name.eq_ignore_ascii_case(range));
            same.map(|(_, weight)| *weight).max()
        };
        ranges.iter().find_map(weight_in).unwrap_or(0)
    };
    let openmetrics = weight_of(&["application/openmetrics-text", "application/*"]);
    openmetrics > 0 && openmetrics >= weight_of(&["text/plain", "text/*", "*/*"])
}

/// Converts OpenMetrics to the text format 0.0.4 of Prometheus. There the metadata of a counter has
/// the name of its sample (`…_total`).
fn to_prometheus(openmetrics: &str) -> String {
    let mut counters: Vec<&str> = Vec::new();
    for line in openmetrics.lines() {
        let typed = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter"));
        counters.extend(typed);
    }
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let (keyword, rest) = match line.split_at_checked("# TYPE ".len()) {
            Some((keyword @ ("# TYPE " | "# HELP "), rest)) => (keyword, rest),
            _ => ("", line),
        };
        match rest.split_once(' ') {
            Some((name, what)) if !keyword.is_empty() && counters.contains(&name) => {
                text += &format!("{keyword}{name}_total {what}\n");
            }
            _ => text += &format!("{line}\n"),
        }
    }
    text
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
