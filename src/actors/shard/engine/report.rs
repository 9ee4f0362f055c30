//! The report on one connection.

use crate::{
    actors::{
        ClientInfo, Lease,
        connection_report::{
            BehindReason, ConnectionFilter, ConnectionReport, ConnectionState, EndsFor,
        },
        shard::slot::Slot,
    },
    core::{ConnectionLimits, Transport},
    model::Position,
};

/// Whether a connection passes a filter, without the filter's subject, which is not in the slot.
pub(super) fn matches(slot: &Slot, filter: &ConnectionFilter) -> bool {
    let connection = &slot.connection;
    filter.id.is_none_or(|id| id == slot.subscriber.id())
        && filter.behind.is_none_or(|behind| behind == connection.is_behind())
        && filter.transport.is_none_or(|transport| transport == connection.transport())
        && filter.channel.as_ref().is_none_or(|name| {
            slot.subscriber.named().any(|entry| entry.name() == name)
                || slot.subscriber.patterns().iter().any(|p| p.matches(name))
        })
}

/// The report on a connection, with at most `selectors_max` of its channels, patterns and types
/// each.
pub(super) fn describe(
    slot: &Slot,
    bytes_per_s: u64,
    lease: Option<&Lease>,
    client_info: Option<&ClientInfo>,
    position: Position,
    selectors_max: usize,
    limits: &ConnectionLimits,
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
        lag_max: connection.lag_max(limits),
        unsent_bytes: connection.unsent_bytes() as u64,
        sent_bytes: slot.sent_bytes,
        bytes_per_s,
        opened_ms: u64::from(slot.opened_s) * 1_000,
        written_ms: connection.written_ms(),
        policy: connection.policy(),
        peer: slot.peer.address(),
        forwarded_for: client_info.and_then(ClientInfo::forwarded_for),
        subject: lease.and_then(|lease| lease.subject().cloned()),
        ends_ms: connection.ends_ms(),
        ends_for: ends_for(slot, lease),
        stalls_ms: connection.stalls_ms(limits),
    }
}

fn ends_for(slot: &Slot, lease: Option<&Lease>) -> Option<EndsFor> {
    let connection = &slot.connection;
    let ends_ms = connection.ends_ms()?;
    Some(match connection.transport() {
        _ if connection.is_draining() => EndsFor::Drain,
        _ if lease.is_some_and(|lease| lease.until_ms == ends_ms) => EndsFor::Token,
        Transport::Poll => EndsFor::Deadline,
        Transport::Stream => EndsFor::Age,
    })
}

/// Whether a connection is behind, and why.
pub(super) fn state(slot: &Slot) -> ConnectionState {
    let connection = &slot.connection;
    if connection.is_ending() {
        return ConnectionState::Behind(BehindReason::Ending);
    }
    if !connection.is_behind() {
        return ConnectionState::Live;
    }
    ConnectionState::Behind(if connection.is_blocked() {
        BehindReason::Blocked
    } else if connection.transport() == Transport::Stream
        && connection.cursor() < connection.replay_through()
    {
        BehindReason::Replaying
    } else {
        BehindReason::CatchingUp
    })
}
