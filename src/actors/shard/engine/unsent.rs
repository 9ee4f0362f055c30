//! The ceiling on what connections that do not read keep in memory: their unsent rests, in the
//! whole hub together.
//!
//! A rest is counted as long as it lives, wherever it goes. When the ceiling is passed, shards end
//! those of their connections that have taken no byte for longest, until as much is free again as
//! they have added themselves.

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;

use super::Engine;
use crate::core::CloseReason;

/// A rest that is counted.
struct CountedRest {
    bytes: Bytes,
    /// What its memory takes, however much of it has been sent.
    size: i64,
    total: Gauge,
}

impl AsRef<[u8]> for CountedRest {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedRest {
    fn drop(&mut self) {
        self.total.dec_by(self.size);
    }
}

/// What the ceiling needs to know between two looks.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// Bytes that this shard has added since it looked last.
    added: i64,
    /// Where the search for the slowest goes on.
    hand: u32,
}

impl Engine {
    /// Counts a rest. Short ones are not worth it: they are the hub's own words.
    pub(super) fn count_unsent(&mut self, rest: Bytes) -> Bytes {
        if rest.len() < COUNTED_BYTES_MIN {
            return rest;
        }
        let total = self.metrics.unsent_bytes.clone();
        let size = rest.len() as i64;
        total.inc_by(size);
        self.unsent.added += size;
        Bytes::from_owner(CountedRest { bytes: rest, size, total })
    }

    /// Ends the slowest connections if the hub holds more than the ceiling. To be called between
    /// rounds: a round in hand must not lose any connection but the one it is at.
    pub(super) fn enforce_unsent_limit(&mut self) {
        let max = i64::try_from(self.limits.unsent_bytes_max).unwrap_or(i64::MAX);
        let mut added = std::mem::take(&mut self.unsent.added);
        while added > 0 && self.metrics.unsent_bytes.get() > max {
            let Some((index, bytes)) = self.slowest() else { return };
            self.finish(index, CloseReason::UnsentCeiling);
            added -= bytes;
        }
    }

    /// Of a sample of its slots, the one with a rest that has taken no byte for longest. The next
    /// call looks at other slots.
    fn slowest(&mut self) -> Option<(u32, i64)> {
        let end = self.slots.capacity() as u32;
        let mut slowest: Option<(u64, u32, i64)> = None;
        let mut looked_at = 0;
        for step in 0..end {
            let index = (self.unsent.hand + step) % end;
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let bytes = slot.connection.unsent_bytes();
            if bytes >= COUNTED_BYTES_MIN {
                let written_ms = slot.connection.written_ms();
                if slowest.is_none_or(|(oldest, ..)| written_ms < oldest) {
                    slowest = Some((written_ms, index, bytes as i64));
                }
            }
            looked_at += 1;
            // At least one is found: there is something to free, or nothing of this shard's.
            if looked_at >= SAMPLE_SLOTS && slowest.is_some() {
                self.unsent.hand = index + 1;
                break;
            }
        }
        slowest.map(|(_, index, bytes)| (index, bytes))
    }
}

/// Rests shorter than this are not counted.
const COUNTED_BYTES_MIN: usize = if cfg!(test) { 16 } else { 256 };
/// Slots among which the slowest is looked for.
const SAMPLE_SLOTS: usize = 64;
