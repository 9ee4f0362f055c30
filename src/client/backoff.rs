//! How long to wait before the next attempt.

use std::time::Duration;

use fastrand::Rng;

/// Waits that grow with each failure in a row and are spread at random, so that clients which
/// lost their hub together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// Failures since the last success.
    failures: u32,
    random: Rng,
}

impl Backoff {
    pub(crate) fn new(random: Rng) -> Self {
        Self { failures: 0, random }
    }

    /// An attempt succeeded: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure. The first wait is `base` and up to a quarter more. Each
    /// further wait is between `base` and a ceiling, which doubles up to [`CEILING_MAX`], or up to
    /// `base` if that is longer. `retry_after`, which the hub has sent, is a lower bound.
    pub(crate) fn next(&mut self, base: Duration, retry_after: Option<Duration>) -> Duration {
        let base = base.max(retry_after.unwrap_or_default());
        let ceiling = match self.failures {
            0 => base + base / 4,
            failures => base.saturating_mul(1 << failures.min(16)).min(CEILING_MAX.max(base)),
        };
        self.failures = self.failures.saturating_add(1);
        base + (ceiling - base).mul_f64(self.random.f64())
    }
}

const CEILING_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_within_their_bounds_and_start_anew() {
        let mut backoff = Backoff::new(Rng::with_seed(1));
        for ceiling in [1.25, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = backoff.next(SECOND, None);
            assert!(wait >= SECOND && wait <= Duration::from_secs_f64(ceiling), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next(SECOND, None) <= SECOND * 5 / 4);
    }

    #[test]
    fn the_client_never_retries_sooner_than_the_hub_asked() {
        let mut backoff = Backoff::new(Rng::with_seed(1));
        for _ in 0..100 {
            assert!(backoff.next(SECOND, Some(60 * SECOND)) >= 60 * SECOND);
        }
    }
}
