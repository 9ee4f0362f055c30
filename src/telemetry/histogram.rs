//! Histograms whose observations are two relaxed additions: a publish or a round makes some, and
//! none takes a lock.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Counts observations by their size. Clones count together.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// The largest observation of each bucket; there is one more without a bound.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// Counted units in one shown unit: 1e9 for times, counted in nanoseconds and shown in seconds.
    scale: f64,
}

impl Histogram {
    /// A histogram of times, which are shown in seconds; the bounds are in nanoseconds.
    pub(super) fn of_times(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1e9)
    }

    /// A histogram of whole numbers.
    pub(super) fn of_numbers(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1.0)
    }

    fn new(bounds: &'static [u64], scale: f64) -> Self {
        debug_assert!(bounds.is_sorted());
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, sum: AtomicU64::new(0), scale }))
    }

    /// Counts a number.
    pub fn observe(&self, number: u64) {
        let Buckets { bounds, counts, sum, .. } = &*self.0;
        // Most are small, and then this is a comparison or two.
        let bucket = bounds.iter().position(|bound| number <= *bound).unwrap_or(bounds.len());
        counts[bucket].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(number, Ordering::Relaxed);
    }

    /// Counts a time.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The counts of its buckets as they are now.
    pub(super) fn counts(&self) -> Counts {
        let Buckets { bounds, counts, .. } = &*self.0;
        Counts { bounds, counts: counts.iter().map(|one| one.load(Ordering::Relaxed)).collect() }
    }

    /// The number of observations.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let Buckets { bounds, counts, sum, scale } = &*self.0;
        let bounds = bounds.iter().map(|bound| *bound as f64 / scale).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        // Of the buckets as they are now, so that they and their sum agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum.load(Ordering::Relaxed) as f64 / scale;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The counts of a histogram's buckets at one moment.
#[derive(Debug)]
pub(super) struct Counts {
    bounds: &'static [u64],
    counts: Box<[u64]>,
}

impl Counts {
    /// What was counted after `before`, which is of the same histogram.
    pub(super) fn since(&self, before: &Self) -> Self {
        let pairs = self.counts.iter().zip(&before.counts);
        let counts = pairs.map(|(now, then)| now.saturating_sub(*then)).collect();
        Self { bounds: self.bounds, counts }
    }

    /// The size that so many percent of the observations do not exceed, interpolated within its
    /// bucket; of the bucket without a bound, the bound below it. `None` without observations.
    pub(super) fn percentile(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.counts.iter().sum();
        let rank = (all * percent).div_ceil(100).max(1);
        let mut before = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            if before + count >= rank && *count > 0 {
                let low = bucket.checked_sub(1).map_or(0, |below| self.bounds[below]);
                let high = self.bounds.get(bucket).copied().unwrap_or(low);
                let share = (rank - before) as f64 / *count as f64;
                return Some(low + ((high - low) as f64 * share) as u64);
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn text(histogram: &Histogram) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("x", "Help", histogram.clone());
        encode(&mut text, &registry).expect("a String takes it");
        text
    }

    #[test]
    fn an_observation_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::of_numbers(&[0, 10, 100]);
        for number in [0, 1, 10, 11, 100, 101, 1_000] {
            histogram.observe(number);
        }
        let text = text(&histogram);
        for line in [
            "x_sum 1223.0",
            "x_count 7",
            "x_bucket{le=\"0.0\"} 1",
            "x_bucket{le=\"10.0\"} 3",
            "x_bucket{le=\"100.0\"} 5",
            "x_bucket{le=\"+Inf\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn percentiles_are_of_what_was_counted_between_two_looks() {
        let histogram = Histogram::of_numbers(&[0, 10, 100]);
        histogram.observe(1_000);
        let before = histogram.counts();
        let percentiles = |counts: &Counts| (counts.percentile(50), counts.percentile(99));
        assert_eq!(percentiles(&histogram.counts().since(&before)), (None, None));
        for _ in 0..50 {
            histogram.observe(7);
            histogram.observe(60);
        }
        // The last of those up to 10, and the last but one of those up to 100.
        assert_eq!(percentiles(&histogram.counts().since(&before)), (Some(10), Some(98)));
        histogram.observe(5_000);
        histogram.observe(5_000);
        assert_eq!(histogram.counts().since(&before).percentile(100), Some(100));
        let zeros = Histogram::of_numbers(&[0, 10, 100]);
        zeros.observe(0);
        assert_eq!(percentiles(&zeros.counts()), (Some(0), Some(0)));
    }

    #[test]
    fn times_are_shown_in_seconds() {
        let histogram = Histogram::of_times(&[1_000_000, 2_500_000_000]);
        histogram.observe_time(Duration::from_millis(1));
        histogram.observe_time(Duration::from_millis(1_500));
        let text = text(&histogram);
        for line in ["x_sum 1.501", "x_bucket{le=\"0.001\"} 1", "x_bucket{le=\"2.5\"} 2"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
