//! How a shard's thread is divided between the fan-out and all else on it: accepts, requests, bodies.
//!
//! A slice of the fan-out is short, so that a request waits little for it. But between two slices
//! every task that is ready has its turn, and under a flood of requests these are sixty: a round of
//! eight slices would take as long as five hundred requests. So the fan-out goes on for [`SHARE`] times
//! as long as the others had the thread, and they have a quarter of it unless three of their turns are
//! longer than [`TURN_MAX`]. Within its turn, rounds of live events go on for as long as those had it
//! who read history.

use std::time::Duration;

use tokio::time::Instant;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// Since when the fan-out has the thread.
    begun: Instant,
    /// How long the others had it last, while the fan-out wanted it.
    away: Duration,
    /// Until when rounds are sent before sockets are looked at again.
    rounds_until: Instant,
}

impl Turns {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, away: Duration::ZERO, rounds_until: now }
    }

    /// Whether the fan-out, which has more to do, lets others go ahead.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.begun) >= (SHARE * self.away).min(TURN_MAX)
    }

    /// The others had the thread from one time to the other.
    pub(super) fn others_had_it(&mut self, from: Instant, until: Instant) {
        (self.begun, self.away) = (until, until.duration_since(from));
    }

    /// Sockets that asked for it had the thread for a time, of the fan-out's own turn; rounds begin now.
    pub(super) fn serve(&mut self, time: Duration, now: Instant) {
        self.rounds_until = now + time.min(TURN_MAX);
    }

    /// Whether rounds have had the thread as long as these.
    pub(super) fn is_served(&self, now: Instant) -> bool {
        now >= self.rounds_until
    }

    /// The fan-out has nothing to do: what the others have of the thread now, they take from nobody.
    pub(super) fn rest(&mut self) {
        self.away = Duration::ZERO;
    }
}

/// How many times as long as the others the fan-out has the thread while it wants it. With an equal
/// share, requests that cost a millisecond each keep a hub that is busy by three quarters from
/// keeping up.
const SHARE: u32 = 3;
/// What the fan-out has of the thread at most while others wait for it.
const TURN_MAX: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fan_out_has_three_times_as_long_as_the_others_had_and_no_longer_than_its_bound() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut turns = Turns::new(start);
        assert!(turns.is_over(start), "a slice, where nobody had the thread before");
        turns.others_had_it(start, ms(3));
        assert!(!turns.is_over(ms(3)) && !turns.is_over(ms(11)), "below");
        assert!(turns.is_over(ms(12)), "at three times what they had");
        turns.others_had_it(ms(10), ms(110));
        assert!(!turns.is_over(ms(129)) && turns.is_over(ms(130)), "no longer than the bound");
        turns.rest();
        assert!(turns.is_over(ms(110)));
    }

    #[test]
    fn rounds_have_as_long_as_the_sockets_that_read_history() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut turns = Turns::new(start);
        assert!(turns.is_served(start));
        turns.serve(Duration::from_millis(2), ms(10));
        assert!(!turns.is_served(ms(11)) && turns.is_served(ms(12)));
        turns.serve(Duration::from_millis(200), ms(20));
        assert!(!turns.is_served(ms(39)) && turns.is_served(ms(40)), "no longer than the bound");
    }
}
