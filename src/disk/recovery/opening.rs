//! Examines a directory, and opens the log in it.

use std::{collections::VecDeque, sync::Arc};

use super::{
    super::{
        directory::Directory,
        error::OpenError,
        keeper::{self, LOSSES, LogKeeper, LogRetention, RESERVE, STARTED_AT},
        log_event::LogItem,
        log_reader::LogReader,
        meta::{Meta, foreign_file},
        removed::RemovedEvents,
        segment::{self, Sealed},
        segments::Segments,
        small_file,
        transient::{TRANSIENT, TransientChannels},
        writer::{CLEAN_END, LogWriter, SEQS_SKIPPED},
    },
    contents::LogContents,
    open_log::{LogStatus, OpenLog, RecoveryReport},
};
use crate::model::{Epoch, Seq};

/// A log that is being opened.
pub struct Recovery<D> {
    pub(super) directory: D,
    epoch: Epoch,
    pub(super) removed: RemovedEvents,
    pub(super) bases: Vec<Seq>,
    is_new: bool,
}

impl<D: Directory> Recovery<D> {
    /// Examines a directory, and creates a log in it if it is empty. `identity` distinguishes the
    /// directory from a copy of it.
    pub fn start(directory: D, identity: u64, new_epoch: Epoch) -> Result<Self, OpenError> {
        let bases = segment::bases(&directory)?;
        let meta = Meta::read(&directory)?;
        let is_new = meta.is_none();
        let meta = match meta {
            Some(meta) if meta.identity != identity => return Err(OpenError::Moved),
            Some(meta) => meta,
            None => {
                let names = directory.list().map_err(OpenError::io("."))?;
                if let Some(file) = foreign_file(names) {
                    return Err(OpenError::Foreign { file });
                }
                let meta = Meta::new(new_epoch, identity);
                meta.write(&directory)?;
                meta
            }
        };
        let removed = Self::read_removed(&directory)?;
        Ok(Self { is_new, ..Self::with(directory, meta.epoch, removed, bases) })
    }

    pub(in crate::disk) fn with(
        directory: D,
        epoch: Epoch,
        removed: RemovedEvents,
        mut bases: Vec<Seq>,
    ) -> Self {
        // Segments before the first base were removed; only their files may still exist.
        bases.retain(|base| *base >= removed.first_base);
        Self { directory, epoch, removed, bases, is_new: false }
    }

    pub(in crate::disk) fn read_removed(directory: &D) -> Result<RemovedEvents, OpenError> {
        match small_file::load(directory, LOSSES)? {
            Some(bytes) => {
                RemovedEvents::decode(&bytes).ok_or_else(|| OpenError::damaged_file(LOSSES))
            }
            None => Ok(RemovedEvents::default()),
        }
    }

    pub(in crate::disk) fn directory(&self) -> &D {
        &self.directory
    }

    /// The bases of its segments.
    pub(in crate::disk) fn bases(&self) -> &[Seq] {
        &self.bases
    }

    /// The epoch of the log.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What is known of removed segments.
    pub fn removed(&self) -> &RemovedEvents {
        &self.removed
    }

    /// Which channels have lost events that were not written, or may have.
    pub fn transient(&self) -> Result<TransientChannels, OpenError> {
        match small_file::load(&self.directory, TRANSIENT)? {
            Some(bytes) => {
                TransientChannels::decode(&bytes).ok_or_else(|| OpenError::damaged_file(TRANSIENT))
            }
            None => Ok(TransientChannels::default()),
        }
    }

    /// The first seq that the log may have.
    pub fn first(&self) -> Seq {
        self.bases.first().copied().unwrap_or(self.removed.first_base).max(Seq(1))
    }

    /// Reads the log in order, and opens it for writing. `visit` returns `None` for an event that
    /// this version does not know, which counts as damage. If the clock was ahead when a segment
    /// was written, the segment ages from now on.
    pub fn open(
        self,
        segment_bytes: u64,
        retention: LogRetention,
        now_ms: u64,
        visit: impl FnMut(LogItem<'_>) -> Option<()>,
    ) -> Result<OpenLog<D>, OpenError> {
        self.finish_removal().map_err(OpenError::io(LOSSES))?;
        let is_large = segment_bytes.saturating_mul(self.bases.len() as u64) >= AHEAD_BYTES_MIN;
        let contents = self.read_items(is_large, visit)?;
        self.cut_off_tail(&contents)?;
        let LogContents { segments, mut last, mut noted, last_event, previous, was_closed } =
            contents;
        if was_closed {
            self.directory.remove(CLEAN_END).map_err(OpenError::io(CLEAN_END))?;
        } else if !self.is_new {
            // Readers may have seen events that a lying disk has lost: their seqs are not given out
            // again.
            last.0 += SEQS_SKIPPED;
            if self.note_start(last).map_err(OpenError::io(STARTED_AT))? {
                noted = last;
            }
        }
        keeper::reserve(&self.directory).map_err(OpenError::io(RESERVE))?;
        self.directory.sync().map_err(OpenError::io("."))?;
        let sealed: VecDeque<Sealed> =
            segments.iter().filter_map(|segment| segment.sealed(now_ms)).collect();
        let report = RecoveryReport {
            last,
            last_event,
            torn_bytes: segments.iter().map(|segment| segment.torn_bytes).sum(),
            was_closed,
            segments: sealed.len(),
            bytes: sealed.iter().map(|sealed| sealed.bytes).sum(),
        };
        let segments = Arc::new(Segments::new(self.directory, sealed));
        let ours = || Arc::clone(&segments);
        Ok(OpenLog {
            writer: LogWriter::new(ours(), self.epoch, last, noted, previous),
            keeper: LogKeeper::new(ours(), segment_bytes, retention, self.removed),
            status: LogStatus(Arc::downgrade(&segments)),
            reader: LogReader::new(&segments),
            report,
        })
    }
}

/// Logs that may have this size are read on two threads.
const AHEAD_BYTES_MIN: u64 = 16 << 20;
