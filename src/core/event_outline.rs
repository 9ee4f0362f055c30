//! The facts of an event that retention needs. At a start the hub reads only these of most events
//! on disk.

use std::sync::Arc;

use crate::model::{Event, Seq};

/// What a history keeps of an event: the event, or its outline.
pub trait Retained {
    /// Its number in the log.
    fn seq(&self) -> Seq;

    /// When it was accepted by the hub's clock, in milliseconds since 1970.
    fn accepted_ms(&self) -> u64;

    /// Bytes of its frame.
    fn frame_bytes(&self) -> u64;
}

/// An event of the log on disk whose body is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventOutline {
    /// Its number in the log.
    pub seq: Seq,
    /// When it was accepted by the hub's clock, in milliseconds since 1970.
    pub accepted_ms: u64,
    /// Bytes of its frame.
    pub frame_bytes: u32,
}

impl Retained for EventOutline {
    #[inline]
    fn seq(&self) -> Seq {
        self.seq
    }

    #[inline]
    fn accepted_ms(&self) -> u64 {
        self.accepted_ms
    }

    #[inline]
    fn frame_bytes(&self) -> u64 {
        self.frame_bytes.into()
    }
}

impl Retained for Arc<Event> {
    #[inline]
    fn seq(&self) -> Seq {
        self.seq
    }

    #[inline]
    fn accepted_ms(&self) -> u64 {
        self.accepted_ms
    }

    #[inline]
    fn frame_bytes(&self) -> u64 {
        self.bytes().len() as u64
    }
}
