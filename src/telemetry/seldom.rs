//! Something that may happen very often and is said once a second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lets something be said once a second, with how often it happened.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    last: Mutex<Option<Instant>>,
    times: AtomicU64,
}

impl Seldom {
    /// It happened. If it is time to say so: how often since the last time.
    pub(crate) fn due(&self) -> Option<u64> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock();
        let now = Instant::now();
        if last.is_some_and(|last| now - last < SAID_EVERY) {
            return None;
        }
        *last = Some(now);
        Some(self.times.swap(0, Ordering::Relaxed))
    }
}

/// Between two lines of the log about it.
const SAID_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_said_once_a_second() {
        let seldom = Seldom::default();
        assert_eq!(seldom.due(), Some(1));
        for _ in 0..999 {
            assert_eq!(seldom.due(), None);
        }
        tokio::time::advance(SAID_EVERY).await;
        assert_eq!(seldom.due(), Some(1_000));
        assert_eq!(seldom.due(), None);
    }
}
