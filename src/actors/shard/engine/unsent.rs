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
    /// Bytes that this shard has added and not yet freed while the ceiling is exceeded.
    added: i64,
    /// The slot at which the next search for the slowest begins.
    hand: u32,
    /// Slots examined since a rest was found.
    searched: u32,
}

impl UnsentBudget {
    pub(super) fn new(metrics: &Metrics, bytes_max: u64) -> Self {
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        Self { total: metrics.unsent_bytes.clone(), bytes_max, added: 0, hand: 0, searched: 0 }
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
        // It may be in a slot that the search has passed.
        self.searched = 0;
        Bytes::from_owner(CountedRest { bytes: rest, size, total })
    }

    /// Whether this shard has to free memory.
    pub(super) fn must_free(&self) -> bool {
        self.added > 0 && self.total.get() > self.bytes_max
    }

    /// The ceiling is not exceeded: what the shard has added so far is not to be freed.
    pub(super) fn forgive(&mut self) {
        (self.added, self.searched) = (0, 0);
    }

    /// Among a sample of slots, finds the one with an unsent rest that has accepted no byte for
    /// longest; its connection is then to be ended. The next call samples other slots. Examines at
    /// most `left` slots, and reduces `left`. `None` if none of these slots has a rest.
    pub(super) fn slowest(&mut self, slots: &Slots<Slot>, left: &mut u32) -> Option<u32> {
        let end = slots.capacity() as u32;
        let mut slowest: Option<(u64, u32, i64)> = None;
        let mut sampled = 0;
        let mut examined = 0;
        // The sample is extended until a rest is found or all slots were examined.
        while examined < end.min(*left) && (sampled < SAMPLE_SLOTS || slowest.is_none()) {
            let index = self.hand % end;
            self.hand = index + 1;
            examined += 1;
            let Some(slot) = slots.get(index as usize) else { continue };
            sampled += 1;
            let bytes = slot.connection.unsent_bytes();
            let written_ms = slot.connection.written_ms();
            if bytes >= COUNTED_BYTES_MIN && slowest.is_none_or(|(oldest, ..)| written_ms < oldest)
            {
                slowest = Some((written_ms, index, bytes as i64));
            }
        }
        *left -= examined;
        match slowest {
            Some((_, index, bytes)) => {
                self.added -= bytes;
                self.searched = 0;
                Some(index)
            }
            None => {
                self.searched += examined;
                if self.searched >= end {
                    // No connection of this shard has a rest.
                    self.forgive();
                }
                None
            }
        }
    }
}

/// Rests shorter than this are not counted.
const COUNTED_BYTES_MIN: usize = if cfg!(test) { 16 } else { 256 };
/// Slots in a sample.
const SAMPLE_SLOTS: u32 = 64;
// Tests of the crate run with a bound so small that some of them hit it.
/// Slots examined in one pass.
pub(super) const SLOTS_PER_PASS: u32 = if cfg!(test) { 64 } else { 4_096 };
