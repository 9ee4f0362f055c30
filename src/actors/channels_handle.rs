//! The supervisor of the channel actors, as the log and the root see it.

use std::sync::Arc;

use parking_lot::Mutex;
use ractor::ActorRef;

use super::messages::ChannelsMsg;
use crate::backend::ChannelEntry;

/// A handle to the supervisor, or to its successor if it is restarted.
#[derive(Debug, Default)]
pub(crate) struct ChannelsHandle(Mutex<Option<ActorRef<ChannelsMsg>>>);

impl ChannelsHandle {
    /// There is a supervisor now.
    pub(super) fn set(&self, supervisor: ActorRef<ChannelsMsg>) {
        *self.0.lock() = Some(supervisor);
    }

    /// Gives a channel an actor if it has none.
    pub(super) fn ensure_actor(&self, entry: &Arc<ChannelEntry>) {
        if entry.claim() && !self.cast(ChannelsMsg::Start(Arc::clone(entry))) {
            // The sweep of the next supervisor finds it.
            entry.release();
        }
    }

    /// A channel was closed.
    pub(super) fn closed(&self, entry: &Arc<ChannelEntry>) {
        self.cast(ChannelsMsg::Closed(Arc::clone(entry)));
    }

    /// Whether the supervisor is there to take the message.
    pub(super) fn cast(&self, msg: ChannelsMsg) -> bool {
        self.0.lock().as_ref().is_some_and(|supervisor| supervisor.cast(msg).is_ok())
    }
}
