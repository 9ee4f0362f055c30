//! Divides the time of a shard's thread between the fan-out and other tasks (accepts, requests,
//! bodies).
//!
//! A slice of the fan-out is short, so that a request waits little for it. But if the fan-out
//! yielded after every slice, tokio would run all ready tasks between two slices. Under a flood of
//! requests these are about sixty, so a round of eight slices would take as long as five hundred
//! requests. Therefore the fan-out runs [`RATIO`] times as long as the other tasks ran last, and at
//! most [`BUDGET_MAX`]. Within that time, rounds of live events run as long as the sends to sockets
//! that read history.

use std::time::Duration;

use tokio::time::Instant;

/// The time budget of the fan-out.
#[derive(Debug)]
pub(super) struct FanOutBudget {
    /// When the fan-out last got the thread.
    begun: Instant,
    /// How long other tasks last ran while the fan-out had work.
    other_work: Duration,
    /// Rounds are sent until then, before sockets are polled again.
    rounds_until: Instant,
}

impl FanOutBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, other_work: Duration::ZERO, rounds_until: now }
    }

    /// Whether the fan-out must yield to other tasks, although it has more work.
    pub(super) fn is_exhausted(&self, now: Instant) -> bool {
        now.duration_since(self.begun) >= (RATIO * self.other_work).min(BUDGET_MAX)
    }

    /// Records how long other tasks ran.
    pub(super) fn record_other_work(&mut self, from: Instant, until: Instant) {
        (self.begun, self.other_work) = (until, until.duration_since(from));
    }

    /// Records how much of the budget was spent on ready sockets. Rounds begin now, and get as much
    /// time.
    pub(super) fn record_serving(&mut self, time: Duration, now: Instant) {
        self.rounds_until = now + time.min(BUDGET_MAX);
    }

    /// Whether rounds have run as long as the serving of sockets before.
    pub(super) fn rounds_are_done(&self, now: Instant) -> bool {
        now >= self.rounds_until
    }

    /// The fan-out is idle: the time of other tasks does not count now.
    pub(super) fn reset(&mut self) {
        self.other_work = Duration::ZERO;
    }
}

/// Time of the fan-out relative to that of other tasks. With a ratio of 1, a flood of requests that
/// cost a millisecond each kept a hub at 75 % load from keeping up with its events.
const RATIO: u32 = 3;
/// The longest time that the fan-out runs while other tasks wait.
const BUDGET_MAX: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fan_out_has_three_times_as_long_as_other_work_and_no_longer_than_its_bound() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut budget = FanOutBudget::new(start);
        assert!(budget.is_exhausted(start), "a slice, where no other task had the thread before");
        budget.record_other_work(start, ms(3));
        assert!(!budget.is_exhausted(ms(3)) && !budget.is_exhausted(ms(11)), "below");
        assert!(budget.is_exhausted(ms(12)), "at three times what they had");
        budget.record_other_work(ms(10), ms(110));
        assert!(
            !budget.is_exhausted(ms(129)) && budget.is_exhausted(ms(130)),
            "no longer than the bound"
        );
        budget.reset();
        assert!(budget.is_exhausted(ms(110)));
    }

    #[test]
    fn rounds_have_as_long_as_the_sockets_that_read_history() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut budget = FanOutBudget::new(start);
        assert!(budget.rounds_are_done(start));
        budget.record_serving(Duration::from_millis(2), ms(10));
        assert!(!budget.rounds_are_done(ms(11)) && budget.rounds_are_done(ms(12)));
        budget.record_serving(Duration::from_millis(200), ms(20));
        assert!(
            !budget.rounds_are_done(ms(39)) && budget.rounds_are_done(ms(40)),
            "no longer than the bound"
        );
    }
}
