//! The shards that have subscribers, so that an event wakes only its target shards.
//!
//! A shard registers a subscription and then reads the head of the log; the log moves its head and
//! then reads which shards have subscribers. Between the two each has a fence, so at least one of
//! them sees the other: the event is handed to the shard, or the subscription begins after it
//! (docs/adr/025-target-shards.md).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The shards that have subscribers of something. Each shard's own thread inserts and removes it,
/// and the log's thread reads the set. A crashed shard leaves its bit set. It is cleared when the
/// restarted shard loses its last subscriber; until then that shard is woken needlessly.
#[derive(Debug, Default)]
pub struct ShardSet(AtomicU64);

/// The shards that were in some sets when the log looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetShards(u64);

impl ShardSet {
    /// Adds a shard. The caller must read the log's head only after this.
    pub fn insert(&self, shard: usize) {
        self.0.fetch_or(bit(shard), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes a shard out.
    pub fn remove(&self, shard: usize) {
        self.0.fetch_and(!bit(shard), Ordering::Relaxed);
    }
}

impl TargetShards {
    /// Looks at the sets, after the log's head was moved.
    pub(super) fn of<'a>(sets: impl IntoIterator<Item = &'a ShardSet>) -> Self {
        fence(Ordering::SeqCst);
        Self(sets.into_iter().fold(0, |bits, set| bits | set.0.load(Ordering::Relaxed)))
    }

    /// Whether a shard is among them. Those past the 64th always are: a set has no bit for them.
    pub fn contains(self, shard: usize) -> bool {
        shard >= SHARDS_MAX || self.0 & bit(shard) != 0
    }
}

fn bit(shard: usize) -> u64 {
    if shard < SHARDS_MAX { 1 << shard } else { 0 }
}

/// Shards that a set tells apart.
const SHARDS_MAX: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread};

    use super::*;

    /// Lets two threads go on together, but for a moment that differs from time to time.
    fn meet(arrived: &AtomicUsize, times: usize, moment: usize) {
        arrived.fetch_add(1, Ordering::SeqCst);
        let mut looks = 0;
        while arrived.load(Ordering::SeqCst) < 2 * times {
            looks += 1;
            // The other may have no processor.
            if looks > 1_000 {
                thread::yield_now();
            }
        }
        (0..moment).for_each(|_| std::hint::spin_loop());
    }

    #[test]
    fn a_shard_is_seen_by_the_log_or_sees_its_head() {
        const ROUNDS: usize = 100_000;
        let sets: Vec<ShardSet> = (0..ROUNDS).map(|_| ShardSet::default()).collect();
        let (head, arrived) = (AtomicU64::new(0), AtomicUsize::new(0));
        let (heads, seen) = thread::scope(|scope| {
            let shard = scope.spawn(|| -> Vec<u64> {
                let register = |(round, set): (usize, &ShardSet)| {
                    meet(&arrived, round + 1, round % 16);
                    set.insert(0);
                    head.load(Ordering::Acquire)
                };
                sets.iter().enumerate().map(register).collect()
            });
            let log = scope.spawn(|| -> Vec<bool> {
                let commit = |(round, set): (usize, &ShardSet)| {
                    meet(&arrived, round + 1, round / 16 % 16);
                    head.store(round as u64 + 1, Ordering::Release);
                    TargetShards::of([set]).contains(0)
                };
                sets.iter().enumerate().map(commit).collect()
            });
            (shard.join().expect("it ends"), log.join().expect("it ends"))
        });
        for (round, (head, seen)) in heads.iter().zip(seen).enumerate() {
            assert!(seen || *head > round as u64, "round {round}: neither has seen the other");
        }
    }

    #[test]
    fn shards_are_told_apart_up_to_the_64th() {
        let (one, other) = (ShardSet::default(), ShardSet::default());
        one.insert(0);
        other.insert(63);
        other.insert(64);
        let target_shards = TargetShards::of([&one, &other]);
        let among: Vec<usize> = (0..66).filter(|&shard| target_shards.contains(shard)).collect();
        assert_eq!(among, [0, 63, 64, 65], "those past the 64th always");
        other.remove(64);
        assert_eq!(TargetShards::of([&one, &other]), target_shards, "no other shard is removed");
        other.remove(63);
        assert!(!TargetShards::of([&one, &other]).contains(63));
        assert!(TargetShards::of([&one, &other]).contains(0));
    }
}
