//! The supervisor of the channel actors, as the log and the root see it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use ractor::ActorRef;

use super::messages::ChannelsMsg;
use crate::backend::ChannelEntry;

/// A handle to the supervisor, or to its successor if it is restarted.
#[derive(Debug, Default)]
pub(crate) struct ChannelsHandle {
    supervisor: Mutex<Option<ActorRef<ChannelsMsg>>>,
    /// Whether the supervisor has a message about closed channels that it has not come to.
    has_closed: AtomicBool,
}

impl ChannelsHandle {
    /// There is a supervisor now.
    pub(super) fn set(&self, supervisor: ActorRef<ChannelsMsg>) {
        *self.supervisor.lock() = Some(supervisor);
        self.has_closed.store(false, Ordering::Release);
    }

    /// Gives a channel an actor if it has none.
    pub(super) fn ensure_actor(&self, entry: &Arc<ChannelEntry>) {
        if entry.claim() && !self.cast(ChannelsMsg::Start(Arc::clone(entry))) {
            // The sweep of the next supervisor finds it.
            entry.release();
        }
    }

    /// Channels were closed. One message at a time.
    pub(super) fn closed(&self) {
        if !self.has_closed.swap(true, Ordering::AcqRel) && !self.cast(ChannelsMsg::Closed) {
            // The sweep of the next supervisor counts the tombstones.
            self.has_closed.store(false, Ordering::Release);
        }
    }

    /// The supervisor is about to count the tombstones: those of channels that are closed from now
    /// on are another message.
    pub(super) fn take_closed(&self) {
        self.has_closed.swap(false, Ordering::AcqRel);
    }

    /// Whether the supervisor is there to take the message.
    pub(super) fn cast(&self, msg: ChannelsMsg) -> bool {
        self.supervisor.lock().as_ref().is_some_and(|supervisor| supervisor.cast(msg).is_ok())
    }
}
