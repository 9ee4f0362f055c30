//! Leases: a connection ends when its client's token expires, unless the client renews it with a
//! fresh token.

use super::engine::Engine;
use crate::{
    actors::{lease::Renewal, slot_key::SlotKey},
    auth::Identity,
    core::{CloseReason, ConnectionMsg},
};

impl Engine {
    /// Renews a connection's lease with a fresh token that expires at `until_ms`. The token must
    /// have the same subject; the connection is ended if the token does not allow everything it
    /// receives.
    pub(crate) fn renew(
        &mut self,
        key: SlotKey,
        id: u64,
        identity: &Identity,
        until_ms: u64,
        now_ms: u64,
    ) -> Renewal {
        self.now_ms = now_ms;
        let found = self.slots.get_mut(key.index as usize).zip(self.extras.lease_mut(key.index));
        // The slot may have been reused by another connection.
        let found = found
            .filter(|(slot, _)| slot.generation == key.generation && slot.subscriber.id() == id);
        let Some((slot, lease)) = found else { return Renewal::NoSuchConnection };
        if lease.subject().is_none() || lease.subject() != identity.subject() {
            return Renewal::NoSuchConnection;
        }
        let due_ms = until_ms.min(lease.due_ms);
        let may_go_on = {
            let mut names = slot.subscriber.named().map(|entry| entry.name());
            let mut patterns = slot.subscriber.patterns().iter();
            names.all(|name| identity.may_subscribe(name))
                && patterns.all(|pattern| identity.may_subscribe_all(pattern))
        };
        if !may_go_on {
            self.finish(key.index, CloseReason::TokenOutgrown);
            return Renewal::Ended;
        }
        lease.until_ms = until_ms;
        slot.connection.handle(ConnectionMsg::Renewed { due_ms }, now_ms, &self.limits);
        self.schedule(key.index);
        Renewal::Renewed
    }

    /// Why a connection has reached its end time: its age, or its token.
    pub(super) fn due_reason(&self, index: u32, reason: CloseReason) -> CloseReason {
        match self.extras.lease(index) {
            Some(lease) if reason == CloseReason::Aged && lease.until_ms <= self.now_ms => {
                CloseReason::TokenExpired
            }
            _ => reason,
        }
    }
}
