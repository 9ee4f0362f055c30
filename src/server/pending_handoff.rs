//! The hand-off of a socket to the shard.
//!
//! Only the socket of a GET without a body is handed off: bytes of a body that come late would be
//! read as the next request, once the socket of a poll is returned. The hand-off happens only when
//! all bytes of earlier answers have been written.

use bytes::Bytes;
use hyper::{Request, Version, header};

use crate::{
    actors::{LocalShard, Socket},
    http::Handoff,
    model::TransferCoding,
};

/// A hand-off that is due once hyper has written all earlier answers.
pub(super) struct PendingHandoff {
    pub(super) handoff: Handoff,
    pub(super) keep_alive: bool,
    pub(super) coding: TransferCoding,
}

pub(super) fn hand_off(
    shard: &LocalShard,
    pending_handoff: PendingHandoff,
    io: Socket,
    read_ahead: &Bytes,
) {
    let PendingHandoff { mut handoff, keep_alive, coding } = pending_handoff;
    let (head, ticket) = if handoff.is_poll {
        (Bytes::new(), Some(handoff.ticket(keep_alive)))
    } else {
        handoff.subscriber.coding = coding;
        (handoff.stream_head(coding), None)
    };
    shard.attach(handoff.subscriber, io, read_ahead, head, ticket);
}

/// Whether the client lets the connection persist after the answer (RFC 9112, section 9.3).
pub(super) fn keeps_alive<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(header::CONNECTION).iter();
    let mut options =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    request.version() == Version::HTTP_11
        && !options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// How the body of a stream to this client is delimited (RFC 9112, section 6.1).
pub(super) fn coding_for<B>(request: &Request<B>) -> TransferCoding {
    match request.version() {
        Version::HTTP_11 => TransferCoding::Chunked,
        _ => TransferCoding::None,
    }
}
