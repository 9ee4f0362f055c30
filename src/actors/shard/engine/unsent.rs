//! The ceiling on the memory of unsent rests, of all connections of the hub together.
//!
//! A rest is counted until its memory is freed. When the ceiling is exceeded, each shard closes the
//! connections that have accepted no byte for longest, until it has freed as much as it has added.

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;

use crate::{
    actors::shard::{slot::Slot, slots::Slots},
    telemetry::Metrics,
};

/// A rest that is counted.
struct CountedRest {
    bytes: Bytes,
    /// The size of its memory, however much of it has been sent.
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

/// What one shard has added to the unsent bytes of the hub, and the ceiling on these.
#[derive(Debug)]
pub(super) struct UnsentBudget {
    /// The unsent bytes of the whole hub.
    total: Gauge,
    bytes_max: i64,
    /// Bytes that this shard has added since its last check of the ceiling.
    added: i64,
    /// The slot at which the next search for the slowest begins.
    hand: u32,
}

impl UnsentBudget {
    pub(super) fn new(metrics: &Metrics, bytes_max: u64) -> Self {
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        Self { total: metrics.unsent_bytes.clone(), bytes_max, added: 0, hand: 0 }
    }

    /// Counts a rest. Short ones, which are blocks of the hub itself, are not counted.
    pub(super) fn count(&mut self, rest: Bytes) -> Bytes {
        if rest.len() < COUNTED_BYTES_MIN {
            return rest;
        }
        let total = self.total.clone();
        let size = rest.len() as i64;
        total.inc_by(size);
        self.added += size;
        Bytes::from_owner(CountedRest { bytes: rest, size, total })
    }

    /// Bytes that the shard has added since the last call.
    pub(super) fn take_added(&mut self) -> i64 {
        std::mem::take(&mut self.added)
    }

    /// Whether the hub holds more than the ceiling.
    pub(super) fn is_exceeded(&self) -> bool {
        self.total.get() > self.bytes_max
    }

    /// Of a sample of slots, the one with an unsent rest that has accepted no byte for longest, and
    /// the size of the rest. The next call samples other slots.
    pub(super) fn slowest(&mut self, slots: &Slots<Slot>) -> Option<(u32, i64)> {
        let end = slots.capacity() as u32;
        let mut slowest: Option<(u64, u32, i64)> = None;
        let mut looked_at = 0;
        for step in 0..end {
            let index = (self.hand + step) % end;
            let Some(slot) = slots.get(index as usize) else { continue };
            let bytes = slot.connection.unsent_bytes();
            if bytes >= COUNTED_BYTES_MIN {
                let written_ms = slot.connection.written_ms();
                if slowest.is_none_or(|(oldest, ..)| written_ms < oldest) {
                    slowest = Some((written_ms, index, bytes as i64));
                }
            }
            looked_at += 1;
            // The sample is extended until a rest is found or all slots were examined.
            if looked_at >= SAMPLE_SLOTS && slowest.is_some() {
                self.hand = index + 1;
                break;
            }
        }
        slowest.map(|(_, index, bytes)| (index, bytes))
    }
}

/// Rests shorter than this are not counted.
const COUNTED_BYTES_MIN: usize = if cfg!(test) { 16 } else { 256 };
/// Slots in a sample.
const SAMPLE_SLOTS: usize = 64;
