//! How many connections, or bytes, each client has, by whatever clients are told apart.
//!
//! A client is in the table as long as it has one, so there are never more than connections.

use std::{fmt, hash::Hash, sync::Arc};

use dashmap::{DashMap, mapref::entry::Entry};

/// The clients and their numbers.
#[derive(Debug)]
pub(crate) struct Shares<K: Hash + Eq>(DashMap<K, u32>);

/// What a client has, counted until it is dropped.
pub(crate) struct Share<K: Hash + Eq> {
    key: K,
    count: u32,
    all: Arc<Shares<K>>,
}

impl<K: Hash + Eq> Default for Shares<K> {
    fn default() -> Self {
        Self(DashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// Counts one more, if the client has less than `max`.
    pub(crate) fn take(self: &Arc<Self>, key: &K, max: u32) -> Option<Share<K>> {
        self.take_many(key, 1, max)
    }

    /// Counts so many more, if the client then has no more than `max`.
    pub(crate) fn take_many(self: &Arc<Self>, key: &K, more: u32, max: u32) -> Option<Share<K>> {
        let fits = |count: u32| count.checked_add(more).filter(|sum| *sum <= max);
        if let Some(mut count) = self.0.get_mut(key) {
            *count = fits(*count)?;
        } else {
            match self.0.entry(key.clone()) {
                Entry::Occupied(mut count) => *count.get_mut() = fits(*count.get())?,
                Entry::Vacant(place) => {
                    place.insert(fits(0)?);
                }
            }
        }
        Some(Share { key: key.clone(), count: more, all: Arc::clone(self) })
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        self.all.0.remove_if_mut(&self.key, |_, count| {
            *count -= self.count;
            *count == 0
        });
    }
}

impl<K: Hash + Eq> fmt::Debug for Share<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key, which may be a person's name.
        f.debug_struct("Share").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_no_more_than_the_bound_and_leaves_no_entry() {
        let shares = Arc::<Shares<u8>>::default();
        let first = shares.take(&1, 2).expect("below");
        let second = shares.take(&1, 2).expect("at the bound");
        assert!(shares.take(&1, 2).is_none(), "above");
        let other = shares.take(&2, 2).expect("another client");
        drop(first);
        let third = shares.take(&1, 2).expect("one has gone");
        assert!(shares.take(&1, 2).is_none());
        assert!(shares.take(&3, 0).is_none());
        drop((second, third, other));
        assert!(shares.0.is_empty());
        let some = shares.take_many(&1, 7, 10).expect("below");
        assert!(shares.take_many(&1, 4, 10).is_none() && shares.take_many(&2, 11, 10).is_none());
        let rest = shares.take_many(&1, 3, 10).expect("at the bound");
        assert!(shares.take_many(&1, u32::MAX, u32::MAX).is_none(), "more than can be counted");
        drop((some, rest));
        assert!(shares.0.is_empty());
    }
}
