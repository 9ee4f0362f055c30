//! The rates at which connections are sent bytes, as reports show them.
//!
//! A connection counts its bytes. What a rate needs beyond that is kept only for connections that
//! were in a report.

use rustc_hash::FxHashMap;

/// A sample of each connection that was in a report, by slot: at most one for each connection.
#[derive(Debug, Default)]
pub(super) struct SentRates(FxHashMap<u32, Sample>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    bytes: u64,
    at_ms: u64,
    /// Bytes a second before the sample.
    rate: u64,
}

impl SentRates {
    /// Bytes a second of a connection since its last report, or since it was opened. `bytes` is
    /// what it has been sent in all. Reports within [`SAMPLE_MS_MIN`] of the sample show the rate
    /// before it.
    pub(super) fn look(&mut self, index: u32, bytes: u64, opened_ms: u64, now_ms: u64) -> u64 {
        let Some(sample) = self.0.get_mut(&index) else {
            let rate = mean_rate(bytes, now_ms.saturating_sub(opened_ms));
            self.0.insert(index, Sample { bytes, at_ms: now_ms, rate });
            return rate;
        };
        let passed_ms = now_ms.saturating_sub(sample.at_ms);
        if passed_ms >= SAMPLE_MS_MIN {
            let rate = mean_rate(bytes.saturating_sub(sample.bytes), passed_ms);
            *sample = Sample { bytes, at_ms: now_ms, rate };
        }
        sample.rate
    }

    /// Removes the sample of a connection that ends.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) {
        if !self.0.is_empty() {
            self.0.remove(&index);
        }
    }
}

/// Bytes a second over a time of at least a second.
pub(super) fn mean_rate(bytes: u64, passed_ms: u64) -> u64 {
    bytes.saturating_mul(1_000) / passed_ms.max(SAMPLE_MS_MIN)
}

/// The shortest time that a rate is measured over, in milliseconds.
const SAMPLE_MS_MIN: u64 = 1_000;
