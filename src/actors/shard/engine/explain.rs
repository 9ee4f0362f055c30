//! What the shard says of its connections, those that ended lately included.
//!
//! Nothing is kept for it while connections are served, but when each was taken on: everything is
//! looked up when it is asked for, a bounded number of slots a call. What is kept is a ring of the
//! last ends.

use std::collections::VecDeque;

use super::Engine;
use crate::{
    actors::{
        ClientInfo, Lease,
        connection_report::{
            BehindReason, ConnectionFilter, ConnectionMatches, ConnectionQuery, ConnectionReport,
            ConnectionState,
        },
        shard::slot::Slot,
    },
    core::{CloseReason, Transport},
    model::Position,
};

/// The connections of a shard that ended last, oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentlyClosed(VecDeque<ConnectionReport>);

impl Engine {
    /// Explains connections, from a slot on: stops at the limit asked for, and in any case after
    /// [`FOUND_MAX`] connections or a look at [`SLOTS_PER_QUERY`] slots.
    pub(crate) fn explain(&mut self, query: &ConnectionQuery, now_ms: u64) -> ConnectionMatches {
        self.now_ms = now_ms;
        let limit = query.limit.min(FOUND_MAX);
        let end = self.slots.capacity() as u32;
        let to = query.from.saturating_add(SLOTS_PER_QUERY).min(end);
        let mut found = Vec::new();
        for index in query.from..to {
            if found.len() >= limit {
                return ConnectionMatches { found, next: Some(index) };
            }
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let lease = self.leases.get(&index).map(|lease| &**lease);
            let wanted = query.filter.subject.as_ref();
            let subject_matches =
                wanted.is_none() || lease.and_then(|lease| lease.subject()) == wanted;
            if subject_matches && matches(slot, &query.filter) {
                let position = self.safe_position(index);
                let slot = &self.slots[index as usize];
                let lease = self.leases.get(&index).map(|lease| &**lease);
                let client_info = self.client_infos.get(&index).map(|client_info| &**client_info);
                found.push(describe(slot, lease, client_info, position, query.selectors_max));
            }
        }
        ConnectionMatches { found, next: (to < end).then_some(to) }
    }

    /// The connections that ended lately, newest first: at most [`CLOSED_MAX`].
    pub(crate) fn recently_closed(&self, filter: &ConnectionFilter) -> Vec<ConnectionReport> {
        self.closed.0.iter().rev().filter(|ended| ended.passes(filter)).cloned().collect()
    }

    /// Remembers the end of a connection. A poll that got its answer is no news, and would push out
    /// what is.
    pub(super) fn record_closed(
        &mut self,
        slot: &Slot,
        lease: Option<&Lease>,
        client_info: Option<&ClientInfo>,
        reason: CloseReason,
    ) {
        if reason == CloseReason::Answered {
            return;
        }
        if self.closed.0.len() == CLOSED_MAX {
            self.closed.0.pop_front();
        }
        let position = self.backend.position(slot.connection.cursor());
        let mut ended = describe(slot, lease, client_info, position, SELECTORS_KEPT);
        ended.state = ConnectionState::Closed { reason, ended_ms: self.now_ms };
        ended.ends_ms = None;
        self.closed.0.push_back(ended);
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

fn matches(slot: &Slot, filter: &ConnectionFilter) -> bool {
    let connection = &slot.connection;
    filter.id.is_none_or(|id| id == slot.subscriber.id())
        && filter.behind.is_none_or(|behind| behind == connection.is_behind())
        && filter.transport.is_none_or(|transport| transport == connection.transport())
        && filter.channel.as_ref().is_none_or(|name| {
            slot.subscriber.named().any(|entry| entry.name() == name)
                || slot.subscriber.patterns().iter().any(|p| p.matches(name))
        })
}

fn describe(
    slot: &Slot,
    lease: Option<&Lease>,
    client_info: Option<&ClientInfo>,
    position: Position,
    selectors_max: usize,
) -> ConnectionReport {
    let (connection, subscriber) = (&slot.connection, &slot.subscriber);
    let (lag_events, lag_bytes) = connection.lag();
    let patterns = subscriber.patterns();
    let names = subscriber.named().map(|entry| entry.name().clone());
    ConnectionReport {
        id: subscriber.id(),
        shard: 0,
        transport: connection.transport(),
        state: state(slot),
        channels: names.take(selectors_max).collect(),
        patterns: patterns.iter().take(selectors_max).cloned().collect(),
        selectors: subscriber.named().count() + patterns.len(),
        types: subscriber.types().iter().take(selectors_max).cloned().collect(),
        position,
        lag_events,
        lag_bytes,
        unsent_bytes: connection.unsent_bytes() as u64,
        opened_ms: u64::from(slot.opened_s) * 1_000,
        written_ms: connection.written_ms(),
        policy: connection.policy(),
        peer: slot.peer.address(),
        forwarded_for: client_info.and_then(ClientInfo::forwarded_for),
        subject: lease.and_then(|lease| lease.subject().cloned()),
        ends_ms: connection.ends_ms(),
    }
}

fn state(slot: &Slot) -> ConnectionState {
    let connection = &slot.connection;
    if connection.is_ending() {
        return ConnectionState::Behind(BehindReason::Ending);
    }
    if !connection.is_behind() {
        return ConnectionState::Live;
    }
    ConnectionState::Behind(if connection.unsent_bytes() > 0 {
        BehindReason::Blocked
    } else if connection.transport() == Transport::Stream
        && connection.cursor() < connection.replay_through()
    {
        BehindReason::Replaying
    } else {
        BehindReason::CatchingUp
    })
}

// Tests of the crate run with bounds so small that they are hit all the time.
/// Slots looked at in one call.
const SLOTS_PER_QUERY: u32 = if cfg!(test) { 4 } else { 4_096 };
/// Connections explained in one call.
const FOUND_MAX: usize = if cfg!(test) { 2 } else { 256 };
/// Closed connections remembered by a shard.
const CLOSED_MAX: usize = if cfg!(test) { 5 } else { 256 };
/// Channels, patterns, and types that are remembered of each.
const SELECTORS_KEPT: usize = 8;
