//! Reads a log in order, and verifies that it is complete.

use super::{
    super::{
        batch::RawItems,
        directory::Directory,
        error::OpenError,
        keeper::STARTED_AT,
        log_event::LogItem,
        recovered_event::Recovered,
        segment,
        segment_reader::Batches,
        small_file,
        writer::{CLEAN_END, CleanEnd},
    },
    contents::{LogContents, SegmentContents},
    opening::Recovery,
    scan::{Scanned, scan_ahead, scan_segment},
};
use crate::model::Seq;

impl<D: Directory> Recovery<D> {
    /// Reads the log in order. Changes nothing.
    pub fn read(&self, mut visit: impl FnMut(Recovered)) -> Result<LogContents, OpenError> {
        self.read_items(false, |item| item.recover().map(&mut visit))
    }

    /// As [`read`](Self::read), without a copy of each item, and on two threads if the log is
    /// large. `visit` returns `None` for an event that this version does not know, which counts as
    /// damage.
    pub(in crate::disk) fn read_items(
        &self,
        is_large: bool,
        visit: impl FnMut(LogItem<'_>) -> Option<()>,
    ) -> Result<LogContents, OpenError> {
        let mut contents = self.empty_contents();
        let mut fold = Fold::new(&mut contents, visit);
        if is_large {
            scan_ahead(&self.directory, &self.bases, |scanned| fold.take(scanned))?;
        } else {
            for (index, base) in self.bases.iter().enumerate() {
                let is_last = index + 1 == self.bases.len();
                scan_segment(&self.directory, *base, is_last, &mut |scanned| fold.take(scanned))?;
            }
        }
        self.check_end(&mut contents)?;
        Ok(contents)
    }

    /// Reads one segment.
    pub(in crate::disk) fn read_segment(
        &self,
        base: Seq,
        is_last: bool,
        contents: &mut LogContents,
    ) -> Result<(), OpenError> {
        let mut fold = Fold::new(contents, |item: LogItem<'_>| item.recover().map(drop));
        scan_segment(&self.directory, base, is_last, &mut |scanned| fold.take(scanned))
    }

    pub(in crate::disk) fn empty_contents(&self) -> LogContents {
        LogContents {
            segments: Vec::with_capacity(self.bases.len()),
            last: Seq(self.removed.first_base.0.saturating_sub(1)),
            noted: Seq::ZERO,
            last_event: Seq::ZERO,
            previous: self.removed.previous,
            was_closed: false,
        }
    }

    /// Finds out where the log continues, and verifies that a closed log ends where it was closed.
    pub(in crate::disk) fn check_end(&self, contents: &mut LogContents) -> Result<(), OpenError> {
        if let Some(bytes) = small_file::load(&self.directory, STARTED_AT)? {
            let bytes = bytes.try_into().map_err(|_| OpenError::damaged_file(STARTED_AT))?;
            contents.last = contents.last.max(Seq(u64::from_le_bytes(bytes)));
        }
        contents.noted = contents.last;
        let Some(bytes) = small_file::load(&self.directory, CLEAN_END)? else { return Ok(()) };
        let clean = CleanEnd::decode(&bytes).ok_or_else(|| OpenError::damaged_file(CLEAN_END))?;
        if clean.previous != contents.previous || clean.last < contents.last {
            return Err(OpenError::Damaged {
                file: CLEAN_END.into(),
                offset: 0,
                last: contents.last_event,
                why: "the log does not end where it was closed",
            });
        }
        contents.last = clean.last;
        contents.was_closed = true;
        Ok(())
    }
}

/// Adds up what the scan of a log finds, and compares each segment with the one before it.
struct Fold<'a, V> {
    contents: &'a mut LogContents,
    visit: V,
    /// The segment that is being read.
    base: Seq,
    newest_ms: u64,
}

impl<'a, V: FnMut(LogItem<'_>) -> Option<()>> Fold<'a, V> {
    fn new(contents: &'a mut LogContents, visit: V) -> Self {
        Self { contents, visit, base: Seq::ZERO, newest_ms: 0 }
    }

    /// Adds the next part. Returns a buffer for reuse, which may be empty.
    fn take(&mut self, scanned: Scanned) -> Result<Vec<u8>, OpenError> {
        match scanned {
            Scanned::Segment(base, header) => {
                (self.base, self.newest_ms) = (base, 0);
                let Some(header) = header else {
                    return Err(self.damaged(0, "it does not begin as a segment"));
                };
                let contents = &self.contents;
                if header.previous != contents.previous || header.base <= contents.last {
                    let why = "a segment before it is missing, or ends too early";
                    return Err(self.damaged(0, why));
                }
                Ok(Vec::new())
            }
            Scanned::Batches(batches) => {
                self.add(&batches)?;
                Ok(batches.into_buffer())
            }
            Scanned::Invalid(offset) => {
                Err(self.damaged(offset, "what was durable cannot be read"))
            }
            Scanned::End(end) => {
                self.contents.segments.push(SegmentContents {
                    base: self.base,
                    last: end.last,
                    bytes: end.bytes,
                    torn_bytes: end.torn_bytes,
                    newest_ms: self.newest_ms,
                    unproven: end.unproven,
                    previous: end.previous,
                });
                (self.contents.last, self.contents.previous) = (end.last, end.previous);
                Ok(Vec::new())
            }
        }
    }

    fn add(&mut self, batches: &Batches) -> Result<(), OpenError> {
        for (begin, header, items) in batches.iter() {
            let mut next = header.first;
            for item in RawItems(items) {
                let unknown = "it holds what this version does not know";
                let item = item.ok_or_else(|| self.damaged(begin, unknown))?;
                let item = LogItem::of(item, next, header.time_ms);
                if let LogItem::Event(_) = item {
                    next = next.next();
                }
                (self.visit)(item).ok_or_else(|| self.damaged(begin, unknown))?;
            }
            if next != header.last().next() {
                return Err(self.damaged(begin, "a batch has not as many events as it says"));
            }
            self.newest_ms = header.time_ms;
            self.contents.last_event = header.last();
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, why: &'static str) -> OpenError {
        let (file, last) = (segment::file_name(self.base), self.contents.last_event);
        OpenError::Damaged { file, offset, last, why }
    }
}
