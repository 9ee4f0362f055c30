//! A log line for an event that may happen very often, written at most once a second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Permits a line once a second, with the number of occurrences.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    last: Mutex<Option<Instant>>,
    times: AtomicU64,
}

impl LogThrottle {
    /// Counts an occurrence. If a line is due, gives the number of occurrences since the last line.
    pub(crate) fn due(&self) -> Option<u64> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock();
        let now = Instant::now();
        if last.is_some_and(|last| now - last < LOG_EVERY) {
            return None;
        }
        *last = Some(now);
        Some(self.times.swap(0, Ordering::Relaxed))
    }
}

/// The shortest time between two lines.
const LOG_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_written_once_a_second() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.due(), Some(1));
        for _ in 0..999 {
            assert_eq!(throttle.due(), None);
        }
        tokio::time::advance(LOG_EVERY).await;
        assert_eq!(throttle.due(), Some(1_000));
        assert_eq!(throttle.due(), None);
    }
}
