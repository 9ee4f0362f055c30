//! An open log, and what was found in it.

use std::{io, sync::Weak};

use super::super::{
    directory::Directory,
    keeper::{self, LogKeeper},
    log_reader::LogReader,
    segments::Segments,
    transient::{TRANSIENT, TransientChannels},
    writer::LogWriter,
};
use crate::model::Seq;

/// An open log.
pub struct OpenLog<D: Directory> {
    /// Writes to the end of the log.
    pub writer: LogWriter<D>,
    /// Works beside the writer.
    pub keeper: LogKeeper<D>,
    /// Whether the disk is full, and the size of the log.
    pub status: LogStatus<D>,
    /// Reads older events.
    pub reader: LogReader<D>,
    /// What was found.
    pub report: RecoveryReport,
}

/// What was found in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The seq after which the log continues.
    pub last: Seq,
    /// The seq of its last event.
    pub last_event: Seq,
    /// Bytes of an unfinished write at its end, which were cut off.
    pub torn_bytes: u64,
    /// Whether the last process closed the log.
    pub was_closed: bool,
    /// The number of segments.
    pub segments: usize,
    /// The bytes of the segments.
    pub bytes: u64,
}

/// A view of an open log, for metrics and admission. It does not keep the log open.
pub struct LogStatus<D: Directory>(pub(super) Weak<Segments<D>>);

impl<D: Directory> LogStatus<D> {
    /// Whether the disk has no room for another segment. Then no new events should be submitted.
    pub fn is_full(&self) -> bool {
        self.0.upgrade().is_some_and(|segments| segments.is_full())
    }

    /// Sealed segments, and their bytes.
    pub fn sealed(&self) -> (usize, u64) {
        self.0.upgrade().map_or_else(Default::default, |segments| segments.sealed())
    }

    /// Notes which channels are transient from now on. Blocks until the note is durable.
    pub fn note_transient(&self, channels: &TransientChannels) -> io::Result<()> {
        match self.0.upgrade() {
            Some(segments) => {
                keeper::write_small(&segments.directory, TRANSIENT, &channels.encode()).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Ends the writer's wait for room on a full disk.
    pub fn close(&self) {
        if let Some(segments) = self.0.upgrade() {
            segments.close();
        }
    }

    /// Ends the waits of the writer and of the keeper.
    pub fn stop(&self) {
        if let Some(segments) = self.0.upgrade() {
            segments.stop();
        }
    }
}
