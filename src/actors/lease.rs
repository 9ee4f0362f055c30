//! The lease of a connection: it lasts until its client's token expires; a fresh token renews it.

use std::{fmt, sync::Arc};

use dashmap::DashMap;

use super::slot_key::SlotKey;
use crate::auth::Identity;

/// The holder of a connection, and until when.
#[derive(Debug, Clone, Default)]
pub struct Holder {
    /// The subject of the token.
    pub subject: Option<Arc<str>>,
    /// When the token expires, in milliseconds of the hub's clock; `None`: never.
    pub until_ms: Option<u64>,
}

/// A connection's lease. Dropping it takes the connection out of the list of leases.
pub struct Lease {
    id: u64,
    subject: Option<Arc<str>>,
    /// `u64::MAX`: never.
    pub(super) until_ms: u64,
    /// When the connection would end without the lease.
    pub(super) due_ms: u64,
    /// The shard that the connection is handed to.
    pub(super) shard: usize,
    leases: Arc<Leases>,
}

/// Where the connections with a lease are, by their number: one entry each, as long as they live.
#[derive(Debug, Default)]
pub(crate) struct Leases(DashMap<u64, Option<SlotAddress>>);

/// A shard, and a slot of it.
pub(crate) type SlotAddress = (usize, SlotKey);

/// Result of a token renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The connection stays until the fresh token expires.
    Renewed,
    /// The fresh token does not allow what it receives: it is ended.
    Ended,
    /// This subject has no such connection.
    NoSuchConnection,
}

/// A fresh token for a connection.
#[derive(Debug)]
pub(crate) struct Renew {
    pub(crate) key: SlotKey,
    pub(crate) id: u64,
    pub(crate) identity: Arc<Identity>,
    pub(crate) until_ms: u64,
}

impl Lease {
    pub(crate) fn new(id: u64, holder: Holder, leases: &Arc<Leases>) -> Self {
        leases.0.insert(id, None);
        let until_ms = holder.until_ms.unwrap_or(u64::MAX);
        let subject = holder.subject;
        Self { id, subject, until_ms, due_ms: u64::MAX, shard: 0, leases: Arc::clone(leases) }
    }

    /// A lease that is not in a hub's table, so it cannot be renewed: for an engine that runs by
    /// itself.
    pub fn alone(id: u64, holder: Holder) -> Self {
        Self::new(id, holder, &Arc::default())
    }

    /// Says in which slot of its shard the connection is. To be called before its client has heard
    /// anything: one that knows its connection's id may hand a fresh token in at once.
    pub(super) fn set_slot(&self, key: SlotKey) {
        if let Some(mut address) = self.leases.0.get_mut(&self.id) {
            *address = Some((self.shard, key));
        }
    }

    /// The subject of its holder.
    pub fn subject(&self) -> Option<&Arc<str>> {
        self.subject.as_ref()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.0.remove(&self.id);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Lease");
        shown.field("id", &self.id).field("until_ms", &self.until_ms).finish_non_exhaustive()
    }
}

impl Leases {
    /// The address of a connection.
    pub(crate) fn find(&self, id: u64) -> Option<SlotAddress> {
        self.0.get(&id).and_then(|entry| *entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_connection_leaves_no_entry() {
        let leases = Arc::<Leases>::default();
        let lease = Lease::new(7, Holder::default(), &leases);
        assert_eq!(leases.find(7), None, "no shard has it yet");
        let key = SlotKey { index: 0, generation: 1 };
        lease.set_slot(key);
        assert_eq!(leases.find(7), Some((0, key)));
        drop(lease);
        assert_eq!(leases.find(7), None);
        assert!(leases.0.is_empty());
    }
}
