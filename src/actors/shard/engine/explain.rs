//! Reports on the connections of a shard, recently closed ones included.
//!
//! For these reports, serving a connection records only its start time and the bytes sent. A report
//! is made on request, from a bounded number of slots a call. The latest closed connections are
//! kept in a ring.

use super::{
    engine::Engine,
    report::{describe, matches},
};
use crate::actors::connection_report::{
    ConnectionFilter, ConnectionMatches, ConnectionQuery, ConnectionReport,
};

impl Engine {
    /// Reports on connections, beginning at a slot. Stops at the requested limit, after
    /// [`FOUND_MAX`] connections, or after the requested slots,
    /// [`SLOTS_PER_QUERY`] at most.
    pub(crate) fn explain(&mut self, query: &ConnectionQuery, now_ms: u64) -> ConnectionMatches {
        self.now_ms = now_ms;
        let limit = query.limit.min(FOUND_MAX);
        let end = self.slots.capacity() as u32;
        let to = query.from.saturating_add(query.slots.min(SLOTS_PER_QUERY)).min(end);
        let mut found = Vec::new();
        for index in query.from..to {
            if found.len() >= limit {
                return ConnectionMatches { found, next: Some(index) };
            }
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let lease = self.extras.lease(index);
            let wanted = query.filter.subject.as_ref();
            let subject_matches =
                wanted.is_none() || lease.and_then(|lease| lease.subject()) == wanted;
            if subject_matches && matches(slot, &query.filter) {
                let position = self.safe_position(index);
                let slot = &self.slots[index as usize];
                let opened_ms = u64::from(slot.opened_s) * 1_000;
                let rate = self.sent_rates.look(index, slot.sent_bytes, opened_ms, now_ms);
                let lease = self.extras.lease(index);
                let client_info = self.extras.client_info(index);
                let selectors_max = query.selectors_max;
                let limits = &self.limits;
                found.push(describe(
                    slot,
                    rate,
                    lease,
                    client_info,
                    position,
                    selectors_max,
                    limits,
                ));
            }
        }
        ConnectionMatches { found, next: (to < end).then_some(to) }
    }

    /// The recently closed connections, newest first.
    pub(crate) fn recently_closed(&self, filter: &ConnectionFilter) -> Vec<ConnectionReport> {
        self.closed.matching(filter)
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Slots examined in one call.
pub(super) const SLOTS_PER_QUERY: u32 = if cfg!(test) { 4 } else { 4_096 };
/// Connections reported in one call.
const FOUND_MAX: usize = if cfg!(test) { 2 } else { 256 };
