//! How long events gather on a shard before they are sent, by how busy its thread is.
//!
//! While the thread has time to spare, an event is sent at once. Once the thread is busy all the
//! time, events wait for others of their channel, step by step longer up to a limit: each send then
//! carries more of them, and costs hardly more. The time shrinks again as the thread gets idle.
//! Network adapters moderate their interrupts in the same way.

use std::time::Duration;

use tokio::time::Instant;

/// The controller of one shard.
#[derive(Debug)]
pub(super) struct GatherTime {
    max_ms: u64,
    now_ms: u64,
    /// Periods in which the thread was busy, since the last one in which it was relaxed.
    busy_periods: u32,
    /// The beginning of the period under way, and how long the thread had been busy until then.
    began: Instant,
    busy: Duration,
}

impl GatherTime {
    /// At first events do not wait; they never wait longer than `max_ms`.
    pub(super) fn new(max_ms: u64, now: Instant) -> Self {
        Self { max_ms, now_ms: 0, busy_periods: 0, began: now, busy: Duration::ZERO }
    }

    /// Ends a period; returns how long events wait from now on, in milliseconds. `busy` returns how
    /// long the thread has been busy in all.
    pub(super) fn end_period(
        &mut self,
        now: Instant,
        busy: impl FnOnce() -> Duration,
    ) -> Option<u64> {
        let period = now.duration_since(self.began);
        if period < PERIOD || self.max_ms == 0 {
            return None;
        }
        let busy = busy();
        let share = busy.saturating_sub(self.busy).as_secs_f64() / period.as_secs_f64();
        (self.began, self.busy) = (now, busy);
        let step_ms = self.max_ms.div_ceil(STEPS);
        if share > BUSY {
            self.busy_periods = self.busy_periods.saturating_add(1);
            if self.busy_periods >= SUSTAINED {
                self.now_ms = (self.now_ms + step_ms).min(self.max_ms);
            }
        } else if share < RELAXED {
            self.busy_periods = 0;
            // The thread may have slept for many periods.
            let periods = period.as_millis() as u64 / PERIOD.as_millis() as u64;
            self.now_ms = self.now_ms.saturating_sub(step_ms.saturating_mul(periods));
        }
        Some(self.now_ms)
    }
}

/// After this idle time the load is over, and gathered events are sent.
pub(super) const IDLE: Duration = Duration::from_millis(5);
/// How often the load is measured.
const PERIOD: Duration = Duration::from_millis(50);
/// Busy periods, without a relaxed one between them, after which events wait: together they are
/// longer than one fan-out to tens of thousands, during which the events of small channels must not
/// wait.
const SUSTAINED: u32 = 4;
/// The steps from no wait to the longest.
const STEPS: u64 = 4;
/// The share of time above which the wait becomes longer.
const BUSY: f64 = 0.9;
/// The share of time below which the wait becomes shorter. The gap between the two keeps the wait
/// from oscillating, since waiting itself makes the thread less busy.
const RELAXED: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits after periods in which the thread was busy for these percentages.
    fn times(max_ms: u64, loads: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut time = GatherTime::new(max_ms, start);
        let (mut now, mut busy) = (start, Duration::ZERO);
        let mut after = |load: &u64| {
            now += PERIOD;
            busy += PERIOD * *load as u32 / 100;
            time.end_period(now, || busy).unwrap_or(u64::MAX)
        };
        loads.iter().map(&mut after).collect()
    }

    /// As [`times`], after so many busy periods that the next one counts.
    fn times_when_busy(max_ms: u64, loads: &[u64]) -> Vec<u64> {
        let before = [100; SUSTAINED as usize - 1];
        let times = times(max_ms, &[&before[..], loads].concat());
        assert_eq!(times[..before.len()], before.map(|_| 0), "they may be one large fan-out");
        times[before.len()..].to_vec()
    }

    #[test]
    fn it_grows_while_the_thread_is_busy_and_shrinks_as_it_gets_idle() {
        assert_eq!(
            times_when_busy(25, &[100, 95, 91, 99, 100]),
            [7, 14, 21, 25, 25],
            "to the limit"
        );
        assert_eq!(times(25, &[50, 89, 90]), [0, 0, 0], "not for much load alone");
        assert_eq!(
            times_when_busy(25, &[100, 100, 80, 90, 76]),
            [7, 14, 14, 14, 14],
            "in between it stays"
        );
        assert_eq!(times_when_busy(25, &[100, 100, 70, 70, 70]), [7, 14, 7, 0, 0]);
        assert_eq!(times_when_busy(25, &[70, 100, 100, 100, 100]), [0, 0, 0, 0, 7], "in a row");
        assert_eq!(times_when_busy(2, &[100, 100, 100]), [1, 2, 2]);
    }

    #[test]
    fn without_a_limit_above_zero_events_never_wait() {
        assert_eq!(times(0, &[100]), [u64::MAX], "it says nothing");
    }

    #[test]
    fn a_period_is_looked_at_when_it_is_over_and_sleep_counts_as_many() {
        let start = Instant::now();
        let mut time = GatherTime::new(20, start);
        let early = start + PERIOD - Duration::from_millis(1);
        assert_eq!(time.end_period(early, || unreachable!()), None);
        let mut busy = Duration::ZERO;
        let mut now = start;
        for _ in 0..3 + SUSTAINED {
            (now, busy) = (now + PERIOD, busy + PERIOD);
            time.end_period(now, || busy);
        }
        assert_eq!(time.end_period(now + PERIOD * 3, || busy), Some(5), "three steps of five");
    }
}
