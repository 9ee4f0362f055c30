//! What a history knows of its events that are on disk alone: how many, and where retention may
//! cut.
//!
//! It holds a few chunks, however many events there are: retention removes whole ones.

use std::collections::VecDeque;

use super::{HistoryLimits, event_outline::Retained};
use crate::model::Seq;

/// The oldest retained events of a channel, whose bodies have left memory. There is at least one.
#[derive(Debug)]
pub(super) struct Unloaded {
    chunks: VecDeque<Chunk>,
    events: u64,
    bytes: u64,
    /// Events after which the newest chunk is full.
    chunk_events: u64,
}

/// Some events in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    /// The first, or a seq before it and after all that are gone.
    first: Seq,
    last: Seq,
    /// When the last was accepted.
    last_ms: u64,
    events: u64,
    bytes: u64,
}

impl Chunk {
    fn of(event: &impl Retained) -> Self {
        Self {
            first: event.seq(),
            last: event.seq(),
            last_ms: event.accepted_ms(),
            events: 1,
            bytes: event.frame_bytes(),
        }
    }

    /// Adds those that come next.
    fn extend(&mut self, next: &Self) {
        self.last = next.last;
        self.last_ms = next.last_ms;
        self.events += next.events;
        self.bytes += next.bytes;
    }
}

impl Unloaded {
    /// The first event that leaves memory.
    pub(super) fn new(event: &impl Retained) -> Self {
        let chunk = Chunk::of(event);
        Self { chunks: [chunk].into(), events: 1, bytes: chunk.bytes, chunk_events: 1 }
    }

    /// Adds the next event that leaves memory.
    pub(super) fn push(&mut self, event: &impl Retained) {
        let next = Chunk::of(event);
        self.events += 1;
        self.bytes += next.bytes;
        match self.chunks.back_mut() {
            Some(newest) if newest.events < self.chunk_events => newest.extend(&next),
            _ => {
                if self.chunks.len() == CHUNKS_MAX {
                    self.merge_pairs();
                }
                self.chunks.push_back(next);
            }
        }
    }

    fn merge_pairs(&mut self) {
        let mut merged: VecDeque<Chunk> = VecDeque::with_capacity(CHUNKS_MAX);
        for (index, chunk) in self.chunks.iter().enumerate() {
            match merged.back_mut() {
                Some(before) if index % 2 == 1 => before.extend(chunk),
                _ => merged.push_back(*chunk),
            }
        }
        self.chunks = merged;
        self.chunk_events *= 2;
    }

    /// The oldest event, or a seq before it and after all that are gone.
    pub(super) fn first(&self) -> Seq {
        self.chunks.front().map_or(Seq::ZERO, |chunk| chunk.first)
    }

    /// The newest event.
    pub(super) fn through(&self) -> Seq {
        self.chunks.back().map_or(Seq::ZERO, |chunk| chunk.last)
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the newest event of the oldest chunk was accepted: older ones go with it.
    pub(super) fn oldest_ms(&self) -> u64 {
        self.chunks.front().map_or(0, |chunk| chunk.last_ms)
    }

    /// Whether the oldest chunk may go: without it there is still as much as one of the bounds
    /// allows, with `events` and `bytes` in memory.
    pub(super) fn exceeds(&self, events: u64, bytes: u64, limits: &HistoryLimits) -> bool {
        self.chunks.front().is_some_and(|oldest| {
            self.events + events - oldest.events >= u64::from(limits.events_max)
                || self.bytes + bytes - oldest.bytes >= limits.bytes_max
        })
    }

    /// Removes the oldest chunk; gives its last event. One that is empty is to be dropped.
    pub(super) fn pop(&mut self) -> Option<Seq> {
        let oldest = self.chunks.pop_front()?;
        self.events -= oldest.events;
        self.bytes -= oldest.bytes;
        Some(oldest.last)
    }

    /// Removes the oldest event, which has this seq and so many bytes.
    pub(super) fn remove_oldest(&mut self, seq: Seq, bytes: u64) {
        let Some(oldest) = self.chunks.front_mut() else { return };
        if seq >= oldest.last {
            self.pop();
            return;
        }
        let bytes = bytes.min(oldest.bytes);
        oldest.first = oldest.first.max(seq.next());
        oldest.bytes -= bytes;
        self.bytes -= bytes;
        if oldest.events > 1 {
            oldest.events -= 1;
            self.events -= 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// Chunks of one history, 40 bytes each: the bounds are exceeded by an eighth of what they allow at
/// most.
const CHUNKS_MAX: usize = 16;
