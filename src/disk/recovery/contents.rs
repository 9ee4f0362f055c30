//! The contents of a log, as far as they were read.

use super::super::{
    error::OpenError,
    segment::{Sealed, SegmentHeader},
};
use crate::model::Seq;

/// The contents of a log.
#[derive(Debug)]
pub struct LogContents {
    /// Its segments.
    pub segments: Vec<SegmentContents>,
    /// The seq after which the log continues.
    pub last: Seq,
    /// The seq of its last event.
    pub last_event: Seq,
    /// Whether the last process closed the log.
    pub was_closed: bool,
    /// The newest seq that the log notes as given out, apart from its clean end.
    pub(super) noted: Seq,
    /// The checksum of its last batch.
    pub(super) previous: u32,
}

/// The contents of a segment.
#[derive(Debug, Clone, Copy)]
pub struct SegmentContents {
    /// At most the seq of its first event.
    pub base: Seq,
    /// The seq of its last event, or the one before `base`.
    pub last: Seq,
    /// Bytes of its header and its batches.
    pub bytes: u64,
    /// Bytes of an unfinished write after them.
    pub torn_bytes: u64,
    /// When its last batch was written, in milliseconds since 1970.
    pub newest_ms: u64,
    /// From this offset on, the segment may be only in the page cache.
    pub(super) unproven: u64,
    /// The checksum of its last batch.
    pub(super) previous: u32,
}

impl LogContents {
    /// Continues after damage, with a segment that has this header.
    pub(in crate::disk) fn continue_with(
        &mut self,
        header: Result<Option<SegmentHeader>, OpenError>,
    ) {
        if let Ok(Some(header)) = header {
            self.previous = header.previous;
            self.last = Seq(header.base.0 - 1);
        }
    }
}

impl SegmentContents {
    /// Whether the segment has a batch.
    pub(super) fn has_batches(&self) -> bool {
        self.last >= self.base
    }

    /// The sealed segment; `None` without a batch. A time after `now_ms` counts as `now_ms`.
    pub(super) fn sealed(&self, now_ms: u64) -> Option<Sealed> {
        let &Self { base, last, bytes, previous, .. } = self;
        let newest_ms = self.newest_ms.min(now_ms);
        self.has_batches().then_some(Sealed { base, last, previous, bytes, newest_ms })
    }
}
