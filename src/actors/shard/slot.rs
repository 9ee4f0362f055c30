//! A slot: one connection with what the shard needs to serve it.

use std::{fmt, sync::Arc};

use crate::{
    actors::{
        peer::{Peer, SlotWaker},
        subscriber::{PollTicket, Subscriber},
    },
    backend::Reading,
    core::Connection,
};

/// The address of a connection within its shard. A slot that is used again has another
/// generation, so an old address finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: Connection,
    pub(super) peer: Box<dyn Peer>,
    pub(super) waker: Arc<SlotWaker>,
    pub(super) subscriber: Box<Subscriber>,
    /// What it knows of history while it is behind.
    pub(super) reading: Option<Box<Reading>>,
    pub(super) ticket: Option<Box<PollTicket>>,
    /// When the wheel looks at it next; entries for other times are stale.
    pub(super) check_ms: u64,
    pub(super) generation: u32,
    /// When it was taken on, in seconds since 1970.
    pub(super) opened_s: u32,
    /// Where it stands in its channel's list, if it is a plain stream of one channel.
    pub(super) place: u32,
    /// Reads of history left in this turn.
    pub(super) reads_left: u8,
}

impl Slot {
    /// A stream of one channel and every event in its plain form: it shares a round's bytes as
    /// they are.
    pub(super) fn is_plain(subscriber: &Subscriber) -> bool {
        subscriber.named.len() == 1
            && subscriber.subscription.patterns().is_empty()
            && subscriber.shape.is_plain()
    }
}
