//! How a shard's thread is divided between the fan-out and other tasks: accepts, requests, bodies.
//!
//! A slice of the fan-out is short, so that a request waits little for it. But between two slices
//! every task that is ready runs, and under a flood of requests these are sixty: a round of eight
//! slices would take as long as five hundred requests. So the fan-out goes on for [`RATIO`] times
//! as long as the others had the thread, and they have a quarter of it unless three times their
//! time is longer than [`BUDGET_MAX`]. Within its time, rounds of live events go on for as long as
//! the sockets that read history had it.

use std::time::Duration;

use tokio::time::Instant;

/// How long the fan-out may go on.
#[derive(Debug)]
pub(super) struct FanOutBudget {
    /// Since when the fan-out has the thread.
    begun: Instant,
    /// How long the others had it last, while the fan-out wanted it.
    other_work: Duration,
    /// Until when rounds are sent before sockets are looked at again.
    rounds_until: Instant,
}

impl FanOutBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, other_work: Duration::ZERO, rounds_until: now }
    }

    /// Whether the fan-out, which has more to do, has to yield to other tasks.
    pub(super) fn is_exhausted(&self, now: Instant) -> bool {
        now.duration_since(self.begun) >= (RATIO * self.other_work).min(BUDGET_MAX)
    }

    /// Other tasks had the thread from one time to the other.
    pub(super) fn record_other_work(&mut self, from: Instant, until: Instant) {
        (self.begun, self.other_work) = (until, until.duration_since(from));
    }

    /// Sockets that asked for it had the thread for a time, of the fan-out's own time; rounds begin now.
    pub(super) fn record_serving(&mut self, time: Duration, now: Instant) {
        self.rounds_until = now + time.min(BUDGET_MAX);
    }

    /// Whether rounds have had the thread as long as these.
    pub(super) fn rounds_are_done(&self, now: Instant) -> bool {
        now >= self.rounds_until
    }

    /// The fan-out has nothing to do: what other tasks have of the thread now does not count.
    pub(super) fn reset(&mut self) {
        self.other_work = Duration::ZERO;
    }
}

/// How many times as long as the others the fan-out has the thread while it wants it. With an equal
/// share, requests that cost a millisecond each keep a hub that is busy by three quarters from
/// keeping up.
const RATIO: u32 = 3;
/// What the fan-out has of the thread at most while others wait for it.
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
