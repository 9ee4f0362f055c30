//! The table of a shard's slots, in pages: it grows by a page at a time and copies nothing, so a
//! shard of a million connections never holds its table twice.

use std::ops::{Index, IndexMut};

/// Values by their index. The index of a removed value is used again.
#[derive(Debug)]
pub(super) struct Slots<T> {
    pages: Vec<Box<[Option<T>]>>,
    /// Free indexes of removed values.
    free: Vec<u32>,
    /// How many indexes have ever been used.
    used: usize,
    len: usize,
}

impl<T> Slots<T> {
    /// An empty table.
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), free: Vec::new(), used: 0, len: 0 }
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest index ever used.
    pub(super) fn capacity(&self) -> usize {
        self.used
    }

    /// The index that the next value will have.
    pub(super) fn vacant_key(&self) -> usize {
        self.free.last().map_or(self.used, |&index| index as usize)
    }

    /// Puts a value at the [vacant key](Self::vacant_key).
    pub(super) fn insert(&mut self, value: T) {
        let index = self.vacant_key();
        if self.free.pop().is_none() {
            if index / PAGE_SLOTS == self.pages.len() {
                self.pages.push((0..PAGE_SLOTS).map(|_| None).collect());
            }
            self.used += 1;
        }
        self.pages[index / PAGE_SLOTS][index % PAGE_SLOTS] = Some(value);
        self.len += 1;
    }

    /// Removes a value.
    pub(super) fn try_remove(&mut self, index: usize) -> Option<T> {
        let value = self.pages.get_mut(index / PAGE_SLOTS)?[index % PAGE_SLOTS].take()?;
        self.free.push(index as u32);
        self.len -= 1;
        Some(value)
    }

    /// A value.
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE_SLOTS)?[index % PAGE_SLOTS].as_ref()
    }

    /// A value, to change it.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE_SLOTS)?[index % PAGE_SLOTS].as_mut()
    }

    /// All values with their indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.pages.iter().flat_map(|page| page.iter());
        slots.enumerate().filter_map(|(index, value)| Some((index, value.as_ref()?)))
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        self.get(index).expect("a slot in use")
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.get_mut(index).expect("a slot in use")
    }
}

/// Slots of a page.
const PAGE_SLOTS: usize = if cfg!(test) { 4 } else { 256 };

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(
            steps in proptest::collection::vec((any::<bool>(), 0usize..40), 0..200),
        ) {
            let mut slots = Slots::new();
            let mut map = BTreeMap::new();
            for (step, (inserts, index)) in steps.into_iter().enumerate() {
                if inserts {
                    let key = slots.vacant_key();
                    prop_assert!(slots.get(key).is_none());
                    slots.insert(step);
                    map.insert(key, step);
                } else {
                    prop_assert_eq!(slots.try_remove(index), map.remove(&index));
                }
                prop_assert_eq!(slots.len(), map.len());
                prop_assert_eq!(slots.is_empty(), map.is_empty());
                let of_map = map.iter().map(|(k, v)| (*k, *v));
                prop_assert!(slots.iter().map(|(k, v)| (k, *v)).eq(of_map));
                prop_assert!(map.keys().all(|&key| key < slots.capacity()), "indices are reused");
            }
            prop_assert!(slots.capacity() <= 200);
        }
    }
}
