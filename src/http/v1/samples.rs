//! `GET /v1/samples`: the hub's figures of the last 15 minutes, with a sample for every five
//! seconds.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::{
    http::{
        Problem,
        authorization::Action,
        call::{Call, Context, Next},
        params::Query,
    },
    hub::{Percentiles, SAMPLE_INTERVAL, SAMPLES_MAX, Sample},
    model::rfc3339_millis,
    telemetry::{BehindCounts, BehindMetrics},
};

/// The newest samples.
pub(in crate::http) struct List {
    last: usize,
}

impl List {
    pub(in crate::http) fn of(context: &Context<'_>) -> Result<Self, Problem> {
        let query = Query::of(&context.parts.uri)?;
        let last = query.number("last", 1, SAMPLES_MAX as u32)?;
        Ok(Self { last: last.map_or(SAMPLES_MAX, |last| last as usize) })
    }
}

impl Call for List {
    /// Figures of all clients.
    fn action(&self) -> Action<'_> {
        Action::Administer
    }

    async fn perform(self, context: &Context<'_>) -> Result<Next<Self>, Problem> {
        let samples = context.state.hub.samples(self.last);
        let samples: Vec<Value> = samples.iter().map(sample_json).collect();
        let interval_ms = SAMPLE_INTERVAL.as_millis() as u64;
        let json =
            json!({ "interval_ms": interval_ms, "samples_max": SAMPLES_MAX, "samples": samples });
        Ok(Next::response(Json(json)))
    }
}

fn sample_json(sample: &Sample) -> Value {
    let per_s = |count: u64| rounded(count as f64 * 1_000.0 / sample.interval_ms as f64);
    let gaps: Map<String, Value> =
        sample.gaps().map(|(reason, count)| (reason.to_owned(), count.into())).collect();
    let mut rejections = json!({});
    for (kind, reason, count) in sample.rejections() {
        rejections[kind][reason] = count.into();
    }
    json!({
        "at": rfc3339_millis(sample.at_ms),
        "interval_ms": sample.interval_ms,
        "events_per_s": per_s(sample.events),
        "deliveries_per_s": per_s(sample.deliveries),
        "publish_ms": sample.publish.map(percentiles_json),
        "fan_out_ms": sample.fan_out.map(percentiles_json),
        "streams": sample.streams,
        "polls": sample.polls,
        "http_connections": sample.http_connections,
        "http2_connections": sample.http2_connections,
        "fell_behind": sample.fell_behind,
        "behind": behind_json(&sample.behind),
        "lag_events": sample.behind.lag_events,
        "unsent_bytes": sample.unsent_bytes,
        "history_bytes": sample.history_bytes,
        "resident_bytes": sample.resident_bytes,
        "cpus": sample.cpus.map(|cpus| rounded(f64::from(cpus))),
        "gaps": gaps,
        "rejections": rejections,
    })
}

/// How many connections are behind, by reason.
pub(super) fn behind_json(counts: &BehindCounts) -> Value {
    let states = BehindMetrics::STATES.into_iter().zip(counts.connections);
    states.map(|(state, count)| (state.to_owned(), count.into())).collect::<Map<_, _>>().into()
}

fn percentiles_json(times: Percentiles) -> Value {
    let ms = |ns: u64| rounded(ns as f64 / 1e6);
    json!({ "p50": ms(times.p50_ns), "p99": ms(times.p99_ns) })
}

/// The number with three decimals: the figures are not more exact than that.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}
