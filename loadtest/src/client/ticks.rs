//! What happened when, in steps of time.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::now_ns;
use super::inbox::Expect;
use super::latency::latencies;

/// Deliveries over time.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    started_ns: u64,
    counted: u64,
    counts: Vec<u64>,
}

/// When each connection had received every event there was.
#[derive(Debug)]
pub(crate) struct CaughtUp {
    started_ns: u64,
    events: u32,
    /// From the start until a connection was at the end, in microseconds.
    pub(crate) times_us: Histogram<u64>,
}

impl Ticks {
    /// Counts from here.
    pub(crate) fn start(&mut self, deliveries: u64) {
        *self = Self { started_ns: now_ns(), counted: deliveries, counts: Vec::new() };
    }

    pub(crate) fn count(&mut self, deliveries: u64) {
        let new = deliveries - self.counted;
        if new == 0 || self.started_ns == 0 {
            return;
        }
        self.counted = deliveries;
        let tick = ((now_ns() - self.started_ns) / TICK.as_nanos() as u64) as usize;
        if tick >= self.counts.len() && tick < TICKS_MAX {
            self.counts.resize(tick + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(tick) {
            *count += new;
        }
    }

    /// Seconds since the start, deliveries a second from then on.
    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        let tick_s = TICK.as_secs_f64();
        let point = |(tick, count): (usize, &u64)| (tick as f64 * tick_s, *count as f64 / tick_s);
        self.counts.iter().enumerate().map(point).collect()
    }
}

impl CaughtUp {
    /// Counts connections that have received `events` events of their one stream.
    pub(crate) fn start(events: u32) -> Self {
        Self { started_ns: now_ns(), events, times_us: latencies() }
    }

    /// Whether this one is there.
    pub(crate) fn count(&mut self, expect: &Expect, now_ns: u64) -> bool {
        let Expect::One { next, .. } = expect else { return false };
        let is_there = next.is_after(self.events);
        if is_there {
            self.times_us.saturating_record((now_ns - self.started_ns) / 1_000);
        }
        is_there
    }

    /// Seconds since the start, connections that were at the end by then.
    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        let mut points = vec![(0.0, 0.0)];
        let mut sum = 0;
        for step in self.times_us.iter_linear(CURVE_STEP_US) {
            sum += step.count_since_last_iteration();
            points.push((step.value_iterated_to() as f64 / 1e6, sum as f64));
        }
        points
    }
}

const TICK: Duration = Duration::from_millis(100);
const TICKS_MAX: usize = 100_000;
const CURVE_STEP_US: u64 = 5_000;
