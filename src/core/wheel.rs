//! A hashed timer wheel: one bucket per tick, for very many coarse deadlines.
//!
//! It never cancels: an entry whose owner moved on is ignored by the owner when it fires.
//! Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 6.

/// Deadlines of keys, rounded up to the tick.
#[derive(Debug)]
pub struct Wheel<K> {
    /// Each key with its tick since the start. A tick has 32 bits, enough for years, so that an
    /// entry with a `u32` key takes 8 bytes.
    buckets: Box<[Vec<(u32, K)>]>,
    tick_ms: u64,
    start_tick: u64,
    /// Everything before this tick since the start has fired.
    next_tick: u64,
}

impl<K> Wheel<K> {
    /// A wheel of `buckets` ticks of `tick_ms` milliseconds each, starting at `now_ms`. Deadlines
    /// further away than one rotation stay in their bucket for more rotations.
    pub fn new(buckets: usize, tick_ms: u64, now_ms: u64) -> Self {
        let buckets = (0..buckets.max(1)).map(|_| Vec::new()).collect();
        Self { buckets, tick_ms, start_tick: now_ms / tick_ms, next_tick: 0 }
    }

    /// Fires `key` at `at_ms` or up to one tick later; a time already past fires next.
    pub fn schedule(&mut self, at_ms: u64, key: K) {
        let tick = at_ms.div_ceil(self.tick_ms).saturating_sub(self.start_tick);
        let tick = tick.max(self.next_tick).min(u32::MAX.into());
        let bucket = (tick % self.buckets.len() as u64) as usize;
        self.buckets[bucket].push((tick as u32, key));
    }

    /// Moves the keys whose deadline is at or before `now_ms` to `due`.
    pub fn advance(&mut self, now_ms: u64, due: &mut Vec<K>) {
        let now_tick = (now_ms / self.tick_ms).saturating_sub(self.start_tick);
        // After a long sleep one rotation visits every bucket; more would visit them again.
        let rotation = self.buckets.len() as u64;
        let first = self.next_tick.max((now_tick + 1).saturating_sub(rotation));
        for tick in first..=now_tick {
            let bucket = &mut self.buckets[(tick % rotation) as usize];
            due.extend(
                bucket.extract_if(.., |(at, _)| u64::from(*at) <= now_tick).map(|(_, key)| key),
            );
            if bucket.is_empty() && bucket.capacity() > 4_096 {
                *bucket = Vec::new();
            }
        }
        self.next_tick = self.next_tick.max(now_tick + 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_fires_once_on_time(
            deadlines in proptest::collection::vec(0u64..2_000, 0..50),
            steps in proptest::collection::vec(1u64..400, 1..40),
        ) {
            let mut wheel = Wheel::new(16, 10, 0);
            for (key, at) in deadlines.iter().enumerate() {
                wheel.schedule(*at, key);
            }
            let mut fired = vec![None; deadlines.len()];
            let mut now = 0;
            for step in steps {
                let before = now;
                now += step;
                let mut due = Vec::new();
                wheel.advance(now, &mut due);
                for key in due {
                    prop_assert_eq!(fired[key], None, "fires once");
                    prop_assert!(deadlines[key] <= now, "not early");
                    prop_assert!(deadlines[key] + 10 > before, "not late");
                    fired[key] = Some(now);
                }
            }
            for (key, at) in deadlines.iter().enumerate() {
                prop_assert_eq!(fired[key].is_some(), at.div_ceil(10) <= now / 10);
            }
        }
    }

    #[test]
    fn a_time_already_past_fires_next() {
        let mut wheel = Wheel::new(16, 10, 1_000);
        let mut due = Vec::new();
        wheel.advance(1_075, &mut due);
        wheel.schedule(1_005, "past");
        wheel.advance(1_080, &mut due);
        assert_eq!(due, ["past"]);
    }

    #[test]
    fn a_sleep_of_many_rotations_visits_each_bucket_once() {
        let mut wheel = Wheel::new(16, 10, 0);
        wheel.schedule(25, "a");
        let mut due = Vec::new();
        // Tick by tick this would take years.
        wheel.advance(1 << 60, &mut due);
        assert_eq!(due, ["a"]);
    }

    #[test]
    fn a_bucket_that_was_large_once_does_not_keep_its_room() {
        let mut wheel = Wheel::new(4, 10, 0);
        (0..5_000).for_each(|key| wheel.schedule(15, key));
        let mut due = Vec::new();
        wheel.advance(20, &mut due);
        assert_eq!(due.len(), 5_000);
        assert!(wheel.buckets.iter().all(|bucket| bucket.capacity() <= 4_096));
    }
}
