//! Where a shard keeps a connection.

use std::fmt;

/// The address of a connection within its shard. A slot that is used again has another
/// generation, so an old address finds no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl SlotKey {
    /// The key of the slot at `index`.
    pub(crate) fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The index of the slot.
    pub(crate) fn index(self) -> u32 {
        self.index
    }

    /// The key as a poller's token. Where that has 32 bits it is the index alone, and a late
    /// report of a slot's former socket costs its successor a look for nothing.
    pub(super) fn token(self) -> usize {
        (u64::from(self.generation) << 32 | u64::from(self.index)) as usize
    }

    /// The slot of a token.
    pub(super) fn index_of(token: usize) -> u32 {
        token as u32
    }
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}
