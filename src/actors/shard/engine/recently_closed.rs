//! Reports on the recently closed connections of a shard.

use std::collections::VecDeque;

use super::{report::describe, sent_rates::mean_rate};
use crate::{
    actors::{
        ClientInfo, Lease,
        connection_report::{ConnectionFilter, ConnectionReport, ConnectionState},
        shard::slot::Slot,
    },
    core::{CloseReason, ConnectionLimits},
    model::Position,
};

/// A ring of reports, oldest first: at most [`CLOSED_MAX`].
#[derive(Debug, Default)]
pub(super) struct RecentlyClosed(VecDeque<ConnectionReport>);

impl RecentlyClosed {
    /// Records the end of a connection at a time in milliseconds.
    pub(super) fn record(
        &mut self,
        slot: &Slot,
        lease: Option<&Lease>,
        client_info: Option<&ClientInfo>,
        position: Position,
        (reason, ended_ms): (CloseReason, u64),
        limits: &ConnectionLimits,
    ) {
        if self.0.len() == CLOSED_MAX {
            self.0.pop_front();
        }
        let age_ms = ended_ms.saturating_sub(u64::from(slot.opened_s) * 1_000);
        let rate = mean_rate(slot.sent_bytes, age_ms);
        let mut ended = describe(slot, rate, lease, client_info, position, SELECTORS_KEPT, limits);
        ended.state = ConnectionState::Closed { reason, ended_ms };
        (ended.ends_ms, ended.ends_for, ended.stalls_ms) = (None, None, None);
        self.0.push_back(ended);
    }

    /// The reports that pass a filter, newest first.
    pub(super) fn matching(&self, filter: &ConnectionFilter) -> Vec<ConnectionReport> {
        self.0.iter().rev().filter(|ended| ended.passes(filter)).cloned().collect()
    }
}

impl ConnectionReport {
    fn passes(&self, filter: &ConnectionFilter) -> bool {
        filter.id.is_none_or(|id| id == self.id)
            && filter.transport.is_none_or(|transport| transport == self.transport)
            && filter.subject.as_ref().is_none_or(|wanted| self.subject.as_ref() == Some(wanted))
            && filter.channel.as_ref().is_none_or(|name| {
                self.channels.contains(name) || self.patterns.iter().any(|p| p.matches(name))
            })
    }
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Closed connections kept by a shard.
const CLOSED_MAX: usize = if cfg!(test) { 5 } else { 256 };
/// Channels, patterns, and types that are kept of each.
const SELECTORS_KEPT: usize = 8;
