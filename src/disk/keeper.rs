//! Keeps the next segment ready, and removes old ones.

use std::{io, sync::Arc, time::Duration};

use super::{
    batch::Items,
    directory::{Directory, DirectoryFile, is_full},
    removed::{RemovedEvents, RemovedLimits},
    segment::{self, Next, SegmentHeader, SegmentReader},
    segments::{Sealed, Segments},
    small_file,
};
use crate::model::Seq;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct LogRetention {
    /// Bytes of segments; past it the oldest are removed. 0: unlimited.
    pub bytes_max: u64,
    /// Milliseconds after which a segment is removed. 0: unlimited.
    pub age_max_ms: u64,
    /// What is known of removed segments.
    pub removed: RemovedLimits,
}

/// The part of an open log that works beside its writer.
pub struct LogKeeper<D: Directory> {
    segments: Arc<Segments<D>>,
    segment_bytes: u64,
    retention: LogRetention,
    removed: RemovedEvents,
}

impl<D: Directory> LogKeeper<D> {
    pub(super) fn new(
        segments: Arc<Segments<D>>,
        segment_bytes: u64,
        retention: LogRetention,
        removed: RemovedEvents,
    ) -> Self {
        Self { segments, segment_bytes, retention, removed }
    }

    /// Waits until there is something to do, or a while; false when the log has ended.
    pub fn wait(&self, time: Duration) -> bool {
        self.segments.wait(time)
    }

    /// Does what is due. Events before `floor` are in no history any more.
    ///
    /// # Errors
    /// A file system that fails, other than for want of room.
    pub fn work(&mut self, floor: Seq, now_ms: u64) -> io::Result<()> {
        self.remove_old(floor, now_ms)?;
        self.segments.prepare_spare(self.segment_bytes)?;
        Ok(())
    }

    fn remove_old(&mut self, floor: Seq, now_ms: u64) -> io::Result<()> {
        let LogRetention { bytes_max, age_max_ms, .. } = self.retention;
        let oldest = self.segments.oldest(SEGMENTS_PER_PASS, |sealed, bytes| {
            sealed.last < floor
                || bytes_max > 0 && bytes > bytes_max
                || age_max_ms > 0 && sealed.newest_ms.saturating_add(age_max_ms) <= now_ms
        });
        let Some((last, first_kept)) = oldest.last() else { return Ok(()) };
        let mut removed = self.removed.clone();
        for (sealed, _) in &oldest {
            self.note_removal(sealed, &mut removed)?;
        }
        removed.first_base = *first_kept;
        removed.previous = last.previous;
        removed.expire(&self.retention.removed, now_ms);
        let directory = &self.segments.directory;
        let has_used_reserve = match write_small(directory, LOSSES, &removed.encode()) {
            // The hub refuses publishes meanwhile, and this is tried again.
            Err(error) if is_full(&error) => return Ok(()),
            result => result?,
        };
        self.removed = removed;
        for (sealed, _) in &oldest {
            directory.remove(&segment::file_name(sealed.base))?;
        }
        directory.sync()?;
        self.segments.forget_oldest(oldest.len());
        if has_used_reserve {
            reserve(directory)?;
        }
        Ok(())
    }

    /// Notes what a segment holds that will be lost.
    fn note_removal(&self, sealed: &Sealed, removed: &mut RemovedEvents) -> io::Result<()> {
        let name = segment::file_name(sealed.base);
        let file = self.segments.directory.open(&name)?;
        let mut header = [0; SegmentHeader::BYTES];
        let read = file.read_full_at(&mut header, 0)?;
        let mut last = Seq::ZERO;
        if let Some(header) = SegmentHeader::decode(&header[..read]) {
            let mut reader = SegmentReader::new(&file, &header)?;
            while let Next::Batch(header, items) = reader.next()? {
                let mut next = header.first;
                for item in Items(&items).flatten() {
                    next = removed.add(item, next, header.time_ms);
                }
                last = header.last();
                // A segment may hold far more than is kept of it.
                removed.limit(&self.retention.removed);
            }
        }
        if last != sealed.last {
            tracing::warn!(file = name, "a segment that is removed cannot be read to its end");
            removed.lose_unread(sealed.last);
        }
        Ok(())
    }
}

/// Writes a file that the log cannot do without, at the expense of the reserve if the disk is full.
/// Whether it was.
pub(super) fn write_small<D: Directory>(
    directory: &D,
    name: &str,
    bytes: &[u8],
) -> io::Result<bool> {
    match small_file::write(directory, name, bytes) {
        Err(error) if is_full(&error) => {
            let _ = directory.remove(RESERVE);
            directory.sync()?;
            small_file::write(directory, name, bytes).map(|()| true)
        }
        result => result.map(|()| false),
    }
}

/// Notes that seqs up to `last` are not used again.
pub(super) fn note_start<D: Directory>(directory: &D, last: Seq) -> io::Result<()> {
    if write_small(directory, STARTED_AT, &last.0.to_le_bytes())? {
        reserve(directory)?;
    }
    Ok(())
}

/// Sets room aside for the losses file, if there is any.
pub(super) fn reserve<D: Directory>(directory: &D) -> io::Result<()> {
    match directory.open(RESERVE).and_then(|file| file.len()) {
        Ok(RESERVE_BYTES) => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match directory.create(RESERVE, RESERVE_BYTES) {
        Err(error) if is_full(&error) => {
            let _ = directory.remove(RESERVE);
            Ok(())
        }
        result => result.map(drop),
    }
}

/// The file of [`RemovedEvents`].
pub(super) const LOSSES: &str = "losses";
/// The file with the newest seq that no later process may use, beyond those of events on disk.
pub(super) const STARTED_AT: &str = "started-at";
/// Disk space that is freed for the losses file when the disk is full.
pub(super) const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 8 << 20;
/// Segments removed between two looks at the spare.
const SEGMENTS_PER_PASS: usize = 8;
