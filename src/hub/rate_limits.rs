//! Rate limits: how much a client may send in a second, with a burst above it.
//!
//! governor does the arithmetic (GCRA: one number for each client, no timer). The table of clients
//! is our own because it is bounded: once it is full, clients that are not in it share one rate.

use std::{
    hash::Hash,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use dashmap::{DashMap, mapref::entry::Entry};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use parking_lot::Mutex;

use crate::core::TooFast;

/// A rate limit for each key.
#[derive(Debug)]
pub(crate) struct RateLimits<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    limiter: RateLimiter<K, Table<K>, C, NoOpMiddleware<C::Instant>>,
    burst: u32,
    keys_max: usize,
    swept: Mutex<C::Instant>,
}

impl<K: Hash + Eq + Clone> RateLimits<K> {
    /// `per_s` a second and `burst` at once, for at most `keys_max` keys; no limit if `per_s` is 0.
    pub(crate) fn new(per_s: u32, burst: u32, keys_max: u32) -> Option<Self> {
        Self::with_clock(per_s, burst, keys_max, MonotonicClock)
    }
}

impl<K: Hash + Eq + Clone, C: Clock> RateLimits<K, C> {
    fn with_clock(per_s: u32, burst: u32, keys_max: u32, clock: C) -> Option<Self> {
        let burst = NonZeroU32::new(burst.max(1))?;
        let quota = Quota::per_second(NonZeroU32::new(per_s)?).allow_burst(burst);
        let swept = Mutex::new(clock.now());
        let keys_max = keys_max as usize;
        let limiter = RateLimiter::new(quota, Table::new(keys_max), clock);
        Some(Self { limiter, burst: burst.get(), keys_max, swept })
    }

    /// Counts `count` against the limit of `key`. A rejected request counts nothing.
    pub(crate) fn take(&self, key: &K, count: u32) -> Result<(), TooFast> {
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        self.sweep_if_due();
        match self.limiter.check_key_n(key, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(TooFast::Wait(until.wait_time_from(self.limiter.clock().now()))),
            Err(_) => Err(TooFast::Never { burst: self.burst }),
        }
    }

    /// Removes keys with a full burst left, which are no different from unknown keys. It does so
    /// from time to time, and more often while the table is full.
    fn sweep_if_due(&self) {
        let every =
            if self.limiter.len() >= self.keys_max { SWEEP_FULL_EVERY } else { SWEEP_EVERY };
        // Another thread sweeps.
        let Some(mut swept) = self.swept.try_lock() else { return };
        let now = self.limiter.clock().now();
        if Duration::from(now.duration_since(*swept)) >= every {
            *swept = now;
            drop(swept);
            self.limiter.retain_recent();
        }
    }
}

/// governor's state of each key: the time at which its next request is within the limit.
#[derive(Debug)]
struct Table<K: Hash + Eq> {
    keys: DashMap<K, Nanos>,
    /// Entries in `keys`; `DashMap::len` would lock all its shards.
    len: AtomicUsize,
    keys_max: usize,
    /// The shared state of all keys without an entry in `keys`.
    others: Mutex<Option<Nanos>>,
}

impl<K: Hash + Eq> Table<K> {
    fn new(keys_max: usize) -> Self {
        let (keys, len) = (DashMap::new(), AtomicUsize::new(0));
        Self { keys, len, keys_max, others: Mutex::default() }
    }
}

impl<K: Hash + Eq + Clone> StateStore for Table<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(mut known) = self.keys.get_mut(key) {
            let (passed, next) = measure(Some(*known))?;
            *known = next;
            return Ok(passed);
        }
        if self.len.load(Ordering::Relaxed) >= self.keys_max {
            let mut others = self.others.lock();
            let (passed, next) = measure(*others)?;
            *others = Some(next);
            return Ok(passed);
        }
        match self.keys.entry(key.clone()) {
            Entry::Occupied(mut known) => {
                let (passed, next) = measure(Some(*known.get()))?;
                known.insert(next);
                Ok(passed)
            }
            Entry::Vacant(entry) => {
                let (passed, next) = measure(None)?;
                entry.insert(next);
                self.len.fetch_add(1, Ordering::Relaxed);
                Ok(passed)
            }
        }
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Table<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.keys.retain(|_, next| {
            let is_recent = *next > drop_below;
            if !is_recent {
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
            is_recent
        });
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Between two sweeps of idle keys. A sweep passes over the table, a millisecond for 100,000 keys.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The same while the table is full.
const SWEEP_FULL_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn rates(
        per_s: u32,
        burst: u32,
        keys_max: u32,
    ) -> (RateLimits<u8, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rates = RateLimits::with_clock(per_s, burst, keys_max, clock.clone()).expect("a rate");
        (rates, clock)
    }

    #[test]
    fn a_burst_passes_at_once_and_then_so_many_a_second() {
        let (rates, clock) = rates(10, 3, 9);
        assert_eq!(rates.take(&1, 2), Ok(()), "below");
        assert_eq!(rates.take(&1, 1), Ok(()), "at the burst");
        assert_eq!(rates.take(&1, 1), Err(TooFast::Wait(100 * MS)), "above");
        assert_eq!(rates.take(&1, 2), Err(TooFast::Wait(200 * MS)));
        assert_eq!(rates.take(&2, 3), Ok(()), "another's is another's");
        clock.advance(99 * MS);
        assert_eq!(rates.take(&1, 1), Err(TooFast::Wait(MS)), "a refusal takes nothing");
        clock.advance(MS);
        assert_eq!(rates.take(&1, 1), Ok(()));
        assert!(rates.take(&1, 1).is_err());
    }

    #[test]
    fn what_is_larger_than_the_burst_never_passes() {
        let (rates, clock) = rates(10, 3, 9);
        assert_eq!(rates.take(&1, 4), Err(TooFast::Never { burst: 3 }));
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(rates.take(&1, 4), Err(TooFast::Never { burst: 3 }));
        assert_eq!(rates.take(&1, 3), Ok(()), "and has taken nothing");
        assert_eq!(rates.take(&1, 0), Ok(()));
    }

    #[test]
    fn keys_past_the_bound_share_one_rate_and_idle_ones_make_room() {
        let (rates, clock) = rates(1, 2, 2);
        for key in [1, 2] {
            assert_eq!(rates.take(&key, 2), Ok(()));
        }
        assert_eq!(rates.take(&3, 1), Ok(()));
        assert_eq!(rates.take(&4, 1), Ok(()));
        assert!(rates.take(&5, 1).is_err(), "the third without an entry");
        assert_eq!(rates.limiter.len(), 2);
        clock.advance(Duration::from_secs(4));
        assert_eq!(rates.take(&5, 1), Ok(()));
        assert_eq!(rates.limiter.len(), 1, "those with a whole burst are removed");
    }

    #[test]
    fn idle_keys_are_removed_within_a_minute() {
        let (rates, clock) = rates(1, 2, 100);
        for key in 0..50 {
            assert_eq!(rates.take(&key, 1), Ok(()));
        }
        clock.advance(SWEEP_EVERY - MS);
        assert_eq!(rates.take(&60, 1), Ok(()));
        assert_eq!(rates.limiter.len(), 51);
        clock.advance(MS);
        assert_eq!(rates.take(&60, 1), Ok(()));
        assert_eq!(rates.limiter.len(), 1);
    }

    #[test]
    fn no_rate_is_no_table() {
        assert!(RateLimits::<u8>::new(0, 5, 9).is_none());
    }

    #[test]
    fn the_table_is_looked_through_once_a_minute_and_not_each_time() {
        let (rates, clock) = rates(1, 2, 100);
        clock.advance(SWEEP_EVERY);
        assert_eq!(rates.take(&1, 1), Ok(()), "the sweep has removed it");
        clock.advance(SWEEP_EVERY - MS);
        assert_eq!(rates.take(&2, 1), Ok(()));
        assert_eq!(rates.limiter.len(), 2, "idle for long, and not looked at yet");
        clock.advance(MS);
        assert_eq!(rates.take(&2, 1), Ok(()));
        assert_eq!(rates.limiter.len(), 1);
    }
}
