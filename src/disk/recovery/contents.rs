//! What was read of a log.

use super::super::{
    error::OpenError,
    segment::{Sealed, SegmentHeader},
};
use crate::model::Seq;

/// What was read of a log.
#[derive(Debug)]
pub struct LogContents {
    /// Its segments.
    pub segments: Vec<SegmentContents>,
    /// The seq behind which it goes on.
    pub last: Seq,
    /// Its last event.
    pub last_event: Seq,
    /// Whether it was closed when it was used last.
    pub was_closed: bool,
    /// The newest seq of which it says without its clean end that it is given out.
    pub(super) noted: Seq,
    /// The checksum of its last batch.
    pub(super) previous: u32,
}

/// What was read of a segment.
#[derive(Debug, Clone, Copy)]
pub struct SegmentContents {
    /// At most its first event.
    pub base: Seq,
    /// Its last event, or the one before its base.
    pub last: Seq,
    /// Bytes of batches, and before them.
    pub bytes: u64,
    /// Bytes of an unfinished write behind them.
    pub torn_bytes: u64,
    /// When its last batch was written, in milliseconds since 1970.
    pub newest_ms: u64,
    /// From here on it may be in the page cache alone.
    pub(super) unproven: u64,
    /// The checksum of its last batch.
    pub(super) previous: u32,
}

impl LogContents {
    /// Goes on behind damage, with a segment that begins like this.
    pub(in crate::disk) fn go_on_with(&mut self, header: Result<Option<SegmentHeader>, OpenError>) {
        if let Ok(Some(header)) = header {
            self.previous = header.previous;
            self.last = Seq(header.base.0 - 1);
        }
    }
}

impl SegmentContents {
    /// Whether it holds a batch.
    pub(super) fn holds_any(&self) -> bool {
        self.last >= self.base
    }

    /// Nothing if it holds no batch. A later time than `now_ms` counts as that.
    pub(super) fn sealed(&self, now_ms: u64) -> Option<Sealed> {
        let &Self { base, last, bytes, previous, .. } = self;
        let newest_ms = self.newest_ms.min(now_ms);
        self.holds_any().then_some(Sealed { base, last, previous, bytes, newest_ms })
    }
}
