//! What readers of the log share: open segments, their indexes, and the blocks that were read last.
//! All of it can be read again.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;

use super::index::{BlockRange, SegmentIndex};
use crate::model::Seq;

/// The cache.
#[derive(Debug)]
pub(super) struct ReadCache<F> {
    pub(super) segments: Lru<Seq, Arc<OpenSegment<F>>>,
    pub(super) indexes: Lru<Seq, Shared<SegmentIndex>>,
    pub(super) blocks: Lru<(Seq, BlockRange), Shared<Vec<u8>>>,
}

/// A segment that can be read.
#[derive(Debug)]
pub(super) struct OpenSegment<F> {
    pub(super) file: F,
    pub(super) seed: u32,
}

/// A value that the first reader makes, while other readers of it wait.
#[derive(Debug)]
pub(super) struct Shared<T>(Arc<Mutex<Option<Arc<T>>>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    /// The value, made now if necessary. One reader at a time makes it; if that fails, the next one
    /// tries.
    pub(super) fn get_or_make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut value = self.0.lock();
        if let Some(value) = &*value {
            return Ok(Arc::clone(value));
        }
        let made = Arc::new(make()?);
        *value = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl<F> ReadCache<F> {
    /// An empty cache, which keeps the last block and the last index.
    pub(super) fn new() -> Self {
        Self { segments: Lru::new(OPEN_SEGMENTS_MAX), indexes: Lru::new(0), blocks: Lru::new(0) }
    }

    /// Sets the bytes of blocks to keep, and as many of indexes.
    pub(super) fn keep(&mut self, bytes_max: u64) {
        (self.indexes.weight_max, self.blocks.weight_max) = (bytes_max, bytes_max);
    }

    /// Drops what belongs to segments before `base`.
    pub(super) fn forget_before(&mut self, base: Seq) {
        self.segments.retain(|segment| *segment >= base);
        self.indexes.retain(|segment| *segment >= base);
        self.blocks.retain(|(segment, _)| *segment >= base);
    }
}

/// Values with a bounded total weight; the least recently used one is dropped first.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    weight: u64,
    weight_max: u64,
    uses: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: u64,
    used: u64,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    fn new(weight_max: u64) -> Self {
        Self { entries: HashMap::new(), weight: 0, weight_max, uses: 0 }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(&entry.value)
    }

    /// Inserts a value, and drops others while the total weight is too large. The new value stays
    /// even if it is too large by itself.
    pub(super) fn insert(&mut self, key: K, value: V, weight: u64) {
        self.uses += 1;
        let entry = Entry { value, weight, used: self.uses };
        self.weight += weight;
        if let Some(before) = self.entries.insert(key, entry) {
            self.weight -= before.weight;
        }
        while self.weight > self.weight_max && self.entries.len() > 1 {
            // There are a few hundred entries; an ordered list would make each use more expensive.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| *key) else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.weight -= entry.weight;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn retain(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.entries.retain(|key, _| is_kept(key));
        self.weight = self.entries.values().map(|entry| entry.weight).sum();
    }
}

/// Segments that readers have open.
pub(super) const OPEN_SEGMENTS_MAX: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_the_weight_stays_within_its_bound() {
        let mut cache: Lru<u32, &str> = Lru::new(10);
        for (key, weight) in [(1, 4), (2, 3), (3, 3)] {
            cache.insert(key, "value", weight);
        }
        assert!(cache.get(&1).is_some(), "ten is within the bound");
        cache.insert(4, "value", 2);
        assert!(cache.get(&2).is_none(), "it was used before the others");
        assert!(cache.get(&1).is_some() && cache.get(&3).is_some() && cache.get(&4).is_some());
        cache.insert(5, "too large", 11);
        assert_eq!((cache.entries.len(), cache.weight), (1, 11));
        cache.insert(6, "value", 1);
        assert_eq!((cache.entries.len(), cache.weight), (1, 1));
    }

    #[test]
    fn one_reader_makes_a_value_and_a_failure_is_not_kept() {
        let shared: Shared<u32> = Shared::default();
        assert_eq!(shared.get_or_make(|| Err("failed")), Err("failed"));
        let made = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let value = shared.get_or_make(|| {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        Ok::<_, ()>(7)
                    });
                    assert_eq!(value.as_deref(), Ok(&7));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
}
