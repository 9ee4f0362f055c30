//! One sample of the hub's figures: the gauges at its end, and the counts since the sample before.

use super::{
    BehindCounts, Metrics,
    histogram::Counts,
    process::cpu_seconds,
    reasons::{self, Reasons},
    resident::resident_bytes,
};

/// The figures of an interval of a few seconds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sample {
    /// When it was taken, in milliseconds since 1970 by the wall clock, which may step.
    pub at_ms: u64,
    /// The length of its interval, in milliseconds; at least one.
    pub interval_ms: u64,
    /// Events accepted meanwhile.
    pub events: u64,
    /// Events handed to connections meanwhile.
    pub deliveries: u64,
    /// From publishes to their answers.
    pub publish: Option<Percentiles>,
    /// From when events were shown until a shard had made the last send of their round.
    pub fan_out: Option<Percentiles>,
    /// Streams open.
    pub streams: u64,
    /// Polls waiting.
    pub polls: u64,
    /// Connections of the HTTP server.
    pub http_connections: u64,
    /// Of these and of streams, those over HTTP/2.
    pub http2_connections: u64,
    /// Times that a connection fell behind meanwhile.
    pub fell_behind: u64,
    /// Connections that are behind, and how far they lag.
    pub behind: BehindCounts,
    /// Bytes ready for connections whose sockets have not taken them.
    pub unsent_bytes: u64,
    /// Bytes in all histories.
    pub history_bytes: u64,
    /// Memory of the process; `None` if the system does not report it.
    pub resident_bytes: Option<u64>,
    /// Processors in use, on average; `None` if the system does not report it.
    pub cpus: Option<f32>,
    gaps: [u32; reasons::GAPS.len()],
    rejections: [u32; REJECTIONS_LEN],
}

/// Two percentiles of times, in nanoseconds. They are interpolated within the buckets of a
/// histogram. Up to a second the bounds of these differ by a factor of two to two and a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of the times are no longer.
    pub p50_ns: u64,
    /// 99 % of the times are no longer.
    pub p99_ns: u64,
}

/// The counters at one moment.
#[derive(Debug)]
pub struct Reading {
    /// By the wall clock.
    at_ms: u64,
    /// By a clock that never goes back.
    clock_ms: u64,
    events: u64,
    deliveries: u64,
    fell_behind: u64,
    publish: Counts,
    fan_out: Counts,
    cpu_seconds: Option<f64>,
    gaps: [u64; reasons::GAPS.len()],
    rejections: [u64; REJECTIONS_LEN],
}

impl Sample {
    /// What happened between two readings, and the gauges as they are now.
    pub fn between(before: &Reading, after: &Reading, metrics: &Metrics) -> Self {
        let interval_ms = after.clock_ms.saturating_sub(before.clock_ms).max(1);
        let gauge = |gauge: &prometheus_client::metrics::gauge::Gauge| gauge.get().max(0) as u64;
        let cpus = |(before, after): (f64, f64)| {
            ((after - before) * 1_000.0 / interval_ms as f64).max(0.0) as f32
        };
        Self {
            at_ms: after.at_ms,
            interval_ms,
            events: after.events.saturating_sub(before.events),
            deliveries: after.deliveries.saturating_sub(before.deliveries),
            publish: Percentiles::of(&before.publish, &after.publish),
            fan_out: Percentiles::of(&before.fan_out, &after.fan_out),
            streams: gauge(&metrics.streams),
            polls: gauge(&metrics.pollers),
            http_connections: gauge(&metrics.http_connections),
            http2_connections: gauge(&metrics.http2_connections),
            fell_behind: after.fell_behind.saturating_sub(before.fell_behind),
            behind: metrics.behind.counts(),
            unsent_bytes: gauge(&metrics.unsent_bytes),
            history_bytes: gauge(&metrics.history_bytes),
            resident_bytes: resident_bytes(),
            cpus: before.cpu_seconds.zip(after.cpu_seconds).map(cpus),
            gaps: difference(&before.gaps, &after.gaps),
            rejections: difference(&before.rejections, &after.rejections),
        }
    }

    /// Gaps sent to clients meanwhile: each reason with its number, zeros left out.
    pub fn gaps(&self) -> impl Iterator<Item = (&'static str, u32)> {
        reasons::GAPS.into_iter().zip(self.gaps).filter(|(_, count)| *count > 0)
    }

    /// Everything that a rejection can be, in the order of [`rejections`](Self::rejections).
    #[cfg(test)]
    pub(crate) fn rejection_names() -> impl Iterator<Item = (&'static str, &'static str)> {
        rejection_names()
    }

    /// Rejections meanwhile: what was rejected, the reason, and the number; zeros left out.
    pub fn rejections(&self) -> impl Iterator<Item = (&'static str, &'static str, u32)> {
        rejection_names()
            .zip(self.rejections)
            .map(|((kind, reason), count)| (kind, reason, count))
            .filter(|(.., count)| *count > 0)
    }
}

impl Reading {
    /// The counters as they are now: at `at_ms` by the wall clock, and `clock_ms` by one that never
    /// goes back.
    pub fn take(metrics: &Metrics, at_ms: u64, clock_ms: u64) -> Self {
        let mut rejections = [0; REJECTIONS_LEN];
        let counts = rejections_of(metrics)
            .into_iter()
            .flat_map(|(counters, names)| names.iter().map(|reason| counters.total([*reason])));
        rejections.iter_mut().zip(counts).for_each(|(slot, count)| *slot = count);
        Self {
            at_ms,
            clock_ms,
            events: metrics.events_published.get(),
            deliveries: metrics.deliveries.get(),
            fell_behind: metrics.fell_behind.get(),
            publish: metrics.publish_seconds.counts(),
            fan_out: metrics.fan_out_seconds.counts(),
            cpu_seconds: cpu_seconds(),
            gaps: reasons::GAPS.map(|reason| metrics.gaps.total([reason])),
            rejections,
        }
    }
}

impl Percentiles {
    /// Of the observations between two counts, if there were any.
    fn of(before: &Counts, after: &Counts) -> Option<Self> {
        let counts = after.since(before);
        Some(Self { p50_ns: counts.percentile(50)?, p99_ns: counts.percentile(99)? })
    }
}

/// What is rejected, by the names that samples have for it, and the reasons of each.
const KINDS: [(&str, &[&str]); 7] = [
    ("publishes", &reasons::PUBLISHES_REFUSED),
    ("subscriptions", &reasons::SUBSCRIPTIONS_REFUSED),
    ("requests", &reasons::REQUESTS_REFUSED),
    ("auth", &reasons::AUTH_REFUSED),
    ("tokens", &reasons::TOKENS_REFUSED),
    ("pages", &reasons::PAGES_REFUSED),
    ("sockets", &reasons::SOCKETS_REFUSED),
];
const REJECTIONS_LEN: usize = {
    let (mut len, mut at) = (0, 0);
    while at < KINDS.len() {
        len += KINDS[at].1.len();
        at += 1;
    }
    len
};

/// The counters of each kind, in the order of [`KINDS`], with their reasons.
fn rejections_of(metrics: &Metrics) -> [(&Reasons, &'static [&'static str]); 7] {
    let counters = [
        &metrics.publishes_refused,
        &metrics.subscriptions_refused,
        &metrics.requests_refused,
        &metrics.auth_refused,
        &metrics.tokens_refused,
        &metrics.pages_refused,
        &metrics.sockets_refused,
    ];
    std::array::from_fn(|at| (counters[at], KINDS[at].1))
}

fn rejection_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.into_iter().flat_map(|(kind, names)| names.iter().map(move |reason| (kind, *reason)))
}

fn difference<const N: usize>(before: &[u64; N], after: &[u64; N]) -> [u32; N] {
    let one = |at: usize| u32::try_from(after[at].saturating_sub(before[at])).unwrap_or(u32::MAX);
    std::array::from_fn(one)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sample_has_what_happened_between_its_readings() {
        let metrics = Metrics::new();
        metrics.events_published.inc_by(5);
        metrics.gaps.count("slow");
        // The wall clock is set back meanwhile.
        let before = Reading::take(&metrics, 9_000, 1_000);
        metrics.events_published.inc_by(20);
        metrics.deliveries.inc_by(70);
        metrics.streams.set(3);
        metrics.gaps.count("evicted");
        metrics.publishes_refused.count("overloaded");
        metrics.sockets_refused.count("rate");
        metrics.fan_out_seconds.observe_time(Duration::from_micros(200));
        let sample = Sample::between(&before, &Reading::take(&metrics, 7, 6_000), &metrics);
        assert_eq!((sample.at_ms, sample.interval_ms), (7, 5_000));
        assert_eq!((sample.events, sample.deliveries, sample.streams), (20, 70, 3));
        assert_eq!(sample.gaps().collect::<Vec<_>>(), [("evicted", 1)]);
        let rejections: Vec<_> = sample.rejections().collect();
        assert_eq!(rejections, [("publishes", "overloaded", 1), ("sockets", "rate", 1)]);
        assert_eq!(sample.publish, None);
        let fan_out = sample.fan_out.expect("an observation");
        assert!((100_000..=250_000).contains(&fan_out.p50_ns), "{fan_out:?}");
        assert!(sample.resident_bytes.is_some() && sample.cpus.is_some());
    }

    #[test]
    fn readings_of_one_moment_divide_by_no_zero() {
        let metrics = Metrics::new();
        let reading = Reading::take(&metrics, 7, 7);
        let sample = Sample::between(&reading, &reading, &metrics);
        assert_eq!((sample.interval_ms, sample.events), (1, 0));
        assert_eq!(sample.cpus, Some(0.0));
    }

    #[test]
    fn every_reason_to_reject_is_in_samples() {
        let metrics = Metrics::new();
        let before = Reading::take(&metrics, 0, 0);
        for (counters, names) in rejections_of(&metrics) {
            names.iter().for_each(|reason| counters.count(reason));
        }
        let sample = Sample::between(&before, &Reading::take(&metrics, 1, 1), &metrics);
        let all: Vec<_> = sample.rejections().map(|(kind, reason, _)| (kind, reason)).collect();
        assert_eq!(all, rejection_names().collect::<Vec<_>>());
        assert_eq!(all.len(), REJECTIONS_LEN);
    }
}
