//! How far a connection is behind, and its unsent bytes.

use bytes::Bytes;

use super::ConnectionLimits;
use crate::model::Seq;

/// The state that only a connection that is BEHIND needs.
#[derive(Debug, Default)]
pub(super) struct Lagging {
    /// The unsent rest of the frame in flight, or of a block of the hub itself.
    pub(super) rest: Bytes,
    /// Events up to this seq are replay and do not count as lag.
    pub(super) replay_through: Seq,
    pub(super) lag_events: u32,
    pub(super) lag_bytes: u64,
    /// The size of the largest round that alone exceeded the lag limit, since the connection fell
    /// behind. The limit is raised by it, so that one large batch does not close every connection
    /// that cannot accept it at once.
    pub(super) large_events: u32,
    pub(super) large_bytes: u64,
    pub(super) skip: bool,
    /// The socket accepted less than the last send, and has not become writable since. The rest may
    /// be empty nevertheless: the accepted bytes may end with an event.
    pub(super) is_blocked: bool,
    /// The next events are read from disk, and so are all that are published meanwhile.
    pub(super) is_on_disk: bool,
    /// When a read of history last found nothing, in milliseconds: until then there were no bytes
    /// for the peer.
    pub(super) checked_ms: u64,
}

impl Lagging {
    /// Whether it waits for the disk, and not for the peer.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.is_on_disk && self.rest.is_empty() && !self.is_blocked
    }

    /// Counts a round as lag.
    pub(super) fn add_lag(&mut self, events: u32, bytes: u64, limits: &ConnectionLimits) {
        self.lag_events = self.lag_events.saturating_add(events);
        self.lag_bytes = self.lag_bytes.saturating_add(bytes);
        if events > limits.lag_events_max {
            self.large_events = self.large_events.max(events);
        }
        if bytes > limits.lag_bytes_max {
            self.large_bytes = self.large_bytes.max(bytes);
        }
    }

    /// Events up to `head` count as replay.
    pub(super) fn begin_replay(&mut self, head: Seq) {
        self.replay_through = self.replay_through.max(head);
        (self.lag_events, self.lag_bytes) = (0, 0);
        (self.large_events, self.large_bytes) = (0, 0);
    }

    /// Subtracts sent events from the lag.
    pub(super) fn remove_lag(&mut self, (events, bytes): (u32, u64)) {
        self.lag_events = self.lag_events.saturating_sub(events);
        self.lag_bytes = self.lag_bytes.saturating_sub(bytes);
    }

    /// What a large round adds to its limits.
    pub(super) fn large(&self) -> (u32, u64) {
        (self.large_events, self.large_bytes)
    }

    pub(super) fn lags_too_far(&self, limits: &ConnectionLimits) -> bool {
        self.lag_events > limits.lag_events_max.saturating_add(self.large_events)
            || self.lag_bytes > limits.lag_bytes_max.saturating_add(self.large_bytes)
    }
}
