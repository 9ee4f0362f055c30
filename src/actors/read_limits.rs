//! The limits of reads of the log on disk.

use crate::disk::LOG_FILES_MAX;

/// The limits of reads of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Threads that read; each has one read under way.
    pub threads: u32,
    /// Reads that wait for a thread, one for each reader; past it a connection is closed, and a
    /// poll refused.
    pub queue_max: u32,
    /// A piece ends after this many frame bytes.
    pub piece_bytes: u32,
    /// Bytes of pieces that are read and not taken by their readers; past it nothing more is read.
    pub bytes_max: u64,
    /// Bytes of the log that are kept in memory for other readers; the same again for its indexes.
    pub cache_bytes_max: u64,
    /// Bytes of the log that one search for the last events of channels reads; past it a
    /// subscription starts with what was found, behind a gap.
    pub search_bytes_max: u64,
    /// Bytes of memory that all such searches hold together, and what they have found until it is
    /// sent. Past it further ones wait, as many as reads wait at most.
    pub search_memory_bytes_max: u64,
}

impl ReadLimits {
    /// How many files the log has open at most, its readers included.
    pub(crate) fn log_files_max(&self) -> usize {
        // A thread that reads has a segment and an index open for a moment.
        LOG_FILES_MAX + 2 * self.threads as usize
    }
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            threads: 2,
            queue_max: 65_536,
            piece_bytes: 64 << 10,
            bytes_max: 16 << 20,
            cache_bytes_max: 16 << 20,
            search_bytes_max: 1 << 30,
            search_memory_bytes_max: 64 << 20,
        }
    }
}
