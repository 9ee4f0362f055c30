//! How many connections, or bytes, each client has in use, by address or subject.
//!
//! A client is in the table as long as it has one, so there are never more than connections.

use std::{fmt, hash::Hash, sync::Arc};

use dashmap::{DashMap, mapref::entry::Entry};

/// The clients and their numbers.
#[derive(Debug)]
pub(crate) struct UsageTable<K: Hash + Eq>(DashMap<K, u32>);

/// What a client has, counted until it is dropped.
pub(crate) struct Usage<K: Hash + Eq> {
    key: K,
    count: u32,
    all: Arc<UsageTable<K>>,
}

impl<K: Hash + Eq> Default for UsageTable<K> {
    fn default() -> Self {
        Self(DashMap::new())
    }
}

impl<K: Hash + Eq + Clone> UsageTable<K> {
    /// Counts one more, if the client has less than `max`.
    pub(crate) fn take(self: &Arc<Self>, key: &K, max: u32) -> Option<Usage<K>> {
        self.take_many(key, 1, max)
    }

    /// Counts so many more, if the client then has no more than `max`.
    pub(crate) fn take_many(self: &Arc<Self>, key: &K, more: u32, max: u32) -> Option<Usage<K>> {
        let fits = |count: u32| count.checked_add(more).filter(|sum| *sum <= max);
        if let Some(mut count) = self.0.get_mut(key) {
            *count = fits(*count)?;
        } else {
            match self.0.entry(key.clone()) {
                Entry::Occupied(mut count) => *count.get_mut() = fits(*count.get())?,
                Entry::Vacant(entry) => {
                    entry.insert(fits(0)?);
                }
            }
        }
        Some(Usage { key: key.clone(), count: more, all: Arc::clone(self) })
    }
}

impl<K: Hash + Eq> Drop for Usage<K> {
    fn drop(&mut self) {
        self.all.0.remove_if_mut(&self.key, |_, count| {
            *count -= self.count;
            *count == 0
        });
    }
}

impl<K: Hash + Eq> fmt::Debug for Usage<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key, which may be a person's name.
        f.debug_struct("Usage").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_no_more_than_the_bound_and_leaves_no_entry() {
        let table = Arc::<UsageTable<u8>>::default();
        let first = table.take(&1, 2).expect("below");
        let second = table.take(&1, 2).expect("at the bound");
        assert!(table.take(&1, 2).is_none(), "above");
        let other = table.take(&2, 2).expect("another client");
        drop(first);
        let third = table.take(&1, 2).expect("one has gone");
        assert!(table.take(&1, 2).is_none());
        assert!(table.take(&3, 0).is_none());
        drop((second, third, other));
        assert!(table.0.is_empty());
        let some = table.take_many(&1, 7, 10).expect("below");
        assert!(table.take_many(&1, 4, 10).is_none() && table.take_many(&2, 11, 10).is_none());
        let rest = table.take_many(&1, 3, 10).expect("at the bound");
        assert!(table.take_many(&1, u32::MAX, u32::MAX).is_none(), "more than can be counted");
        drop((some, rest));
        assert!(table.0.is_empty());
    }
}
