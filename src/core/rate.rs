//! A rate limit with a burst, for a single key, by the generic cell rate algorithm, whose state is
//! one number.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The state of a rate limit. It has no clock.
#[derive(Debug, Default)]
pub struct Rate {
    /// The theoretical arrival time of the next event, if all so far had arrived evenly at the
    /// rate, in nanoseconds.
    even_ns: AtomicU64,
}

/// Why events exceed a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooFast {
    /// They are within the rate after this time, if no others come before.
    Wait(Duration),
    /// They alone are more than the burst.
    Never {
        /// The burst.
        burst: u32,
    },
}

impl Rate {
    /// Counts `count` events against a rate of `per_s` a second with `burst` at once. Rejected
    /// events do not count. A rate of 0 is no limit.
    pub fn take(&self, now_ms: u64, count: u32, per_s: u32, burst: u32) -> Result<(), TooFast> {
        if per_s == 0 {
            return Ok(());
        }
        if count > burst {
            return Err(TooFast::Never { burst });
        }
        let now_ns = now_ms.saturating_mul(1_000_000);
        let span = |events: u32| u64::from(events) * 1_000_000_000 / u64::from(per_s);
        let take = |even_ns: u64| {
            let next_ns = even_ns.max(now_ns).saturating_add(span(count));
            match next_ns.saturating_sub(now_ns).saturating_sub(span(burst)) {
                0 => Ok(next_ns),
                over_ns => Err(TooFast::Wait(Duration::from_nanos(over_ns))),
            }
        };
        let mut even_ns = self.even_ns.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        // What was taken at a lower rate or with a larger burst counts as a whole burst at most.
        let latest_ns = now_ns.saturating_add(span(burst));
        loop {
            if even_ns > latest_ns {
                match self.even_ns.compare_exchange_weak(even_ns, latest_ns, order, order) {
                    Ok(_) => even_ns = latest_ns,
                    Err(other) => even_ns = other,
                }
                continue;
            }
            let next_ns = take(even_ns)?;
            match self.even_ns.compare_exchange_weak(even_ns, next_ns, order, order) {
                Ok(_) => return Ok(()),
                Err(other) => even_ns = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_passes_at_once_and_then_so_many_a_second() {
        let rate = Rate::default();
        assert_eq!(rate.take(1_000, 2, 10, 3), Ok(()), "below");
        assert_eq!(rate.take(1_000, 1, 10, 3), Ok(()), "at the burst");
        assert_eq!(rate.take(1_000, 1, 10, 3), Err(TooFast::Wait(100 * MS)), "above");
        assert_eq!(rate.take(1_099, 1, 10, 3), Err(TooFast::Wait(MS)), "a refusal takes nothing");
        assert_eq!(rate.take(1_100, 1, 10, 3), Ok(()));
        assert_eq!(rate.take(1_400, 3, 10, 3), Ok(()), "a whole burst again, and no more");
        assert!(rate.take(1_400, 1, 10, 3).is_err());
    }

    #[test]
    fn a_rate_that_is_raised_holds_at_once_for_what_was_taken_before() {
        let rate = Rate::default();
        assert_eq!(rate.take(1_000, 50, 1, 50), Ok(()));
        assert_eq!(rate.take(1_000, 1, 1, 50), Err(TooFast::Wait(1_000 * MS)));
        assert_eq!(rate.take(1_000, 1, 100, 50), Err(TooFast::Wait(10 * MS)));
        assert_eq!(rate.take(1_010, 1, 100, 50), Ok(()));
        assert_eq!(rate.take(1_010, 1, 100, 5), Err(TooFast::Wait(10 * MS)), "a lower burst");
    }

    #[test]
    fn what_is_larger_than_the_burst_never_passes_and_no_rate_is_no_limit() {
        let rate = Rate::default();
        assert_eq!(rate.take(0, 4, 10, 3), Err(TooFast::Never { burst: 3 }));
        assert_eq!(rate.take(0, 3, 10, 3), Ok(()));
        assert_eq!(rate.take(0, u32::MAX, 0, 3), Ok(()));
    }
}
