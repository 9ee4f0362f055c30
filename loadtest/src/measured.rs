//! From what was counted to the figures of an outcome.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use crate::client::{Group, PublishPlan, Published, Publishing, Receivers, now_ns, thread_cpu_ns};
use crate::failure::Failure;
use crate::machine;
use crate::outcome::{LatencyUs, Machine, Outcome, Series};
use crate::progress::Progress;
use crate::server_figures::ServerSample;
use crate::subject::Subject;

/// A run of one scenario under way, and what it has found so far.
pub(crate) struct Run<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) progress: &'a Progress,
    pub(crate) outcome: Outcome,
}

impl<'a> Run<'a> {
    /// Begins.
    pub(crate) fn new(
        scenario: &str,
        parameters: &impl Serialize,
        subject: &'a Subject,
        progress: &'a Progress,
    ) -> Self {
        let parameters = match serde_json::to_value(parameters) {
            Ok(Value::Object(fields)) => fields.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        let outcome = Outcome {
            scenario: scenario.to_owned(),
            subject: subject.name.clone(),
            round: 1,
            started_at: jiff::Timestamp::now().to_string(),
            machine: Machine::here(),
            parameters,
            ..Outcome::default()
        };
        Self { subject, progress, outcome }
    }

    pub(crate) fn sample(&self) -> Result<ServerSample, Failure> {
        ServerSample::take(&self.subject.pids)
    }

    pub(crate) fn figure(&mut self, name: &str, value: f64) {
        self.outcome.figures.insert(name.to_owned(), value);
    }

    pub(crate) fn series(&mut self, name: &str, units: (&str, &str), points: Vec<(f64, f64)>) {
        self.outcome.series.push(Series {
            name: name.to_owned(),
            x_unit: units.0.to_owned(),
            y_unit: units.1.to_owned(),
            points,
        });
    }

    /// Connects all groups, with figures of how fast and at what cost.
    pub(crate) fn connect(&mut self, groups: &[Group]) -> Result<Receivers, Failure> {
        let total: usize = groups.iter().map(|group| group.connections).sum();
        machine::check_connections(total)?;
        let mut receivers = Receivers::new(self.subject)?;
        let (before, cpu_ns) = (self.sample()?, thread_cpu_ns());
        self.progress.begin("connecting", total as u64);
        let took = receivers.connect(groups, |count| self.progress.at(count as u64))?;
        let after = self.sample()?;
        let each = |ns: u64| ns as f64 / 1_000.0 / total.max(1) as f64;
        self.figure("connections", total as f64);
        self.figure("connects_per_s", total as f64 / took.elapsed.as_secs_f64());
        self.figure("server_cpu_us_per_connect", each(after.cpu_ns_since(&before)));
        self.figure("client_cpu_us_per_connect", each(thread_cpu_ns() - cpu_ns));
        Ok(receivers)
    }

    /// Publishes the plan and receives until `deliveries` more have come or nothing comes any
    /// more; figures, latency and deliveries over time are of this part of the run.
    pub(crate) fn broadcast(
        &mut self,
        receivers: &mut Receivers,
        plan: PublishPlan,
        deliveries: u64,
    ) -> Result<Published, Failure> {
        self.progress.begin("delivering", deliveries);
        receivers.inbox.latency.reset();
        let (first, first_byte) = (receivers.deliveries(), receivers.received_bytes);
        receivers.ticks.start(first);
        let (before, cpu_ns, started_ns) = (self.sample()?, thread_cpu_ns(), now_ns());
        let publishing = Publishing::start(self.subject, plan)?;
        let received = receivers.receive_until(STALL, |receivers| {
            let came = receivers.deliveries() - first;
            self.progress.at(came);
            Ok(came >= deliveries && publishing.is_finished())
        });
        let (elapsed_ns, cpu_ns) = (now_ns() - started_ns, thread_cpu_ns() - cpu_ns);
        publishing.stop();
        let published = publishing.finish();
        received?;
        let published = published?;
        let after = self.sample()?;
        let came = receivers.deliveries() - first;
        let bytes = receivers.received_bytes - first_byte;
        // What comes too often may come last.
        receivers.receive_for(AFTERWARDS)?;
        self.delivery_figures(&before, &after, cpu_ns, came, &published);
        self.figure("received_bytes_per_delivery", bytes as f64 / came.max(1) as f64);
        self.figure("elapsed_s", elapsed_ns as f64 / 1e9);
        self.figure("deliveries_per_s", came as f64 / (elapsed_ns as f64 / 1e9));
        self.latency(&receivers.inbox.latency);
        self.series("deliveries a second", ("s", "1/s"), receivers.ticks.points());
        self.outcome.verified.events += published.events;
        Ok(published)
    }

    pub(crate) fn delivery_figures(
        &mut self,
        before: &ServerSample,
        after: &ServerSample,
        client_cpu_ns: u64,
        deliveries: u64,
        published: &Published,
    ) {
        let each = |ns: u64, of: u64| ns as f64 / 1_000.0 / of.max(1) as f64;
        self.figure("deliveries", deliveries as f64);
        let server_cpu_ns = after.cpu_ns_since(before);
        self.figure("server_cpu_us_per_delivery", each(server_cpu_ns, deliveries));
        self.figure("server_cpu_us_per_event", each(server_cpu_ns, published.events));
        self.figure("client_cpu_us_per_delivery", each(client_cpu_ns, deliveries));
        self.figure("publisher_cpu_us_per_event", each(published.cpu_ns, published.events));
        self.figure("publish_answer_p50_us", published.answer_us.value_at_quantile(0.5) as f64);
        self.figure("publish_answer_p99_us", published.answer_us.value_at_quantile(0.99) as f64);
        self.figure("publish_elapsed_s", published.elapsed.as_secs_f64());
        self.figure("server_threads", after.threads() as f64);
        self.figure("server_threads_ended", after.threads_ended_since(before) as f64);
        self.figure("server_resident_bytes", after.resident_bytes as f64);
    }

    /// Waits until the server has no more to do: its CPU time stands still.
    pub(crate) fn quiet(
        &self,
        receive: &mut impl FnMut(Duration) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let until = Instant::now() + QUIET_WITHIN;
        let mut before = self.sample()?;
        while Instant::now() < until {
            receive(QUIET_STEP)?;
            let now = self.sample()?;
            if now.cpu_ns_since(&before) < QUIET_STEP.as_nanos() as u64 / 50 {
                return Ok(());
            }
            before = now;
        }
        Err(Failure::Late { what: "a quiet server".into(), waited: QUIET_WITHIN })
    }

    /// A figure of before, under a name of its own: the next part of the run has it too.
    pub(crate) fn keep_figure(&mut self, name: &str, kept: &str) {
        if let Some(value) = self.outcome.figures.get(name) {
            self.outcome.figures.insert(kept.to_owned(), *value);
        }
    }

    /// The 99th percentile of the part of the run that was last.
    pub(crate) fn p99_us(&self) -> f64 {
        self.outcome.latency_us.map_or(0.0, |latency| latency.p99)
    }

    /// The distribution of a histogram in microseconds.
    pub(crate) fn latency(&mut self, histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64;
        self.outcome.latency_us = Some(LatencyUs {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max() as f64,
            count: histogram.len(),
        });
        let points = histogram
            .iter_quantiles(PERCENTILE_STEPS)
            .map(|point| (point.quantile_iterated_to() * 100.0, point.value_iterated_to() as f64));
        self.outcome.percentiles = points.collect();
    }

    /// Checks everything that came, and gives the outcome.
    pub(crate) fn finish(
        mut self,
        receivers: &mut Receivers,
        events_of: impl Fn(u32) -> u32,
    ) -> Result<Outcome, Failure> {
        let events = self.outcome.verified.events;
        self.outcome.verified = receivers.verify(events_of)?;
        self.outcome.verified.events = events;
        self.progress.end();
        Ok(self.outcome)
    }
}

/// Deliveries that have not come when nothing has for so long are lost.
const STALL: Duration = Duration::from_secs(10);
/// A delivery too many follows the last one closely, on one machine.
const AFTERWARDS: Duration = Duration::from_millis(100);
/// Points of the distribution for each halving of the distance to 100 %.
const PERCENTILE_STEPS: u32 = 5;
/// A server that spends less than a fiftieth of this is quiet.
const QUIET_STEP: Duration = Duration::from_millis(200);
const QUIET_WITHIN: Duration = Duration::from_secs(30);
