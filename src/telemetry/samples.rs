//! The samples of the last 15 minutes: a ring of fixed size, from which the oldest sample drops.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;

use super::Sample;

/// The samples of one hub.
#[derive(Debug)]
pub struct Samples(Mutex<VecDeque<Sample>>);

impl Samples {
    /// The time between two samples.
    pub const INTERVAL: Duration = Duration::from_secs(5);
    /// How many are kept: those of 15 minutes. Their memory is allocated at the start.
    pub const MAX: usize = 180;

    /// Adds a sample, and drops the oldest one if there are as many as may be.
    pub fn push(&self, sample: Sample) {
        let mut samples = self.0.lock();
        if samples.len() >= Self::MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The newest `count` samples, oldest first.
    pub fn last(&self, count: usize) -> Vec<Sample> {
        let samples = self.0.lock();
        samples.range(samples.len().saturating_sub(count)..).cloned().collect()
    }
}

impl Default for Samples {
    fn default() -> Self {
        Self(Mutex::new(VecDeque::with_capacity(Self::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, Reading};

    #[test]
    fn the_newest_are_kept_up_to_the_bound() {
        let metrics = Metrics::new();
        let (samples, first) = (Samples::default(), Reading::take(&metrics, 0, 0));
        assert!(samples.last(9).is_empty());
        for at_ms in 1..=Samples::MAX as u64 + 1 {
            samples.push(Sample::between(&first, &Reading::take(&metrics, at_ms, at_ms), &metrics));
            assert_eq!(samples.last(1)[0].at_ms, at_ms);
            assert_eq!(samples.last(usize::MAX).len(), (at_ms as usize).min(Samples::MAX));
        }
        let times: Vec<u64> = samples.last(Samples::MAX).iter().map(|one| one.at_ms).collect();
        assert_eq!(times, (2..=Samples::MAX as u64 + 1).collect::<Vec<_>>());
        assert_eq!(samples.last(0).len(), 0);
    }

    #[test]
    fn they_take_as_much_memory_as_the_documentation_says() {
        let bytes = Samples::MAX * size_of::<Sample>();
        assert!(bytes <= 81 << 10, "{bytes} bytes; docs/limits.md says 81 KiB");
    }
}
