//! Latencies in microseconds.

use hdrhistogram::Histogram;

/// An empty histogram: 1 µs to [`LATENCY_US_MAX`], exact to a thousandth.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order")
}

/// Ten minutes; what takes longer counts as so long.
const LATENCY_US_MAX: u64 = 600_000_000;
