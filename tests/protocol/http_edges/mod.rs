//! HTTP at its edges: what well-behaved clients never send, what proxies make of requests, and
//! what attackers try. The real binary, over bare sockets.
mod bodies;
mod bounds;
mod expect;
mod half_closed;
mod head;
mod hosts;
mod old_clients;
mod pieces;
mod pipelining;
mod plain;
use crate::wire;

/// Where streams are.
const STREAMS: [&str; 3] = ["/v1/channels/a/events", "/v1/events?channel=a", "/events"];
/// Where polls are.
const POLLS: [&str; 3] = ["/v1/channels/a/poll", "/v1/poll?channel=a", "/subscribe"];

fn streams_and_polls() -> impl Iterator<Item = &'static str> {
    STREAMS.into_iter().chain(POLLS)
}
