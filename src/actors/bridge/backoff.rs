//! Pauses between attempts to reach a server: they grow up to a limit, and are random, so that hubs
//! do not come at once.

use std::time::Duration;

use super::times::PAUSE_MAX;

/// The state of one outage.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let most = (FIRST_MS << self.failures.min(6)).min(MOST_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(fastrand::u64(most / 2..=most))
    }

    /// Whether an attempt has failed since the last success.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Notes that the server answers.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

const FIRST_MS: u64 = 50;
const MOST_MS: u64 = PAUSE_MAX.as_millis() as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..40).map(|_| backoff.next().as_millis() as u64).collect();
        assert!((25..=50).contains(&pauses[0]));
        assert!(pauses[8..].iter().all(|pause| (250..=500).contains(pause)), "{pauses:?}");
        assert!(pauses[8..].iter().any(|pause| *pause != pauses[8]));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(50));
    }
}
