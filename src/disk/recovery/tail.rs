//! Makes the end of a log writable: removes what a crash has left of a write or of a removal.

use std::io;

use super::{
    super::{
        directory::{Directory, DirectoryFile, is_full},
        error::OpenError,
        index, keeper, segment,
        segments::SPARE,
    },
    contents::LogContents,
    opening::Recovery,
};
use crate::model::Seq;

impl<D: Directory> Recovery<D> {
    /// Removes segments whose removal had begun, and a spare one.
    pub(super) fn finish_removal(&self) -> io::Result<()> {
        // If the last process was killed, the losses file may have its name only in the cache.
        self.directory.sync()?;
        let names = self.directory.list()?;
        let is_removed = |base: Seq| base < self.removed.first_base;
        for name in names {
            let base = segment::base_of(&name).or_else(|| index::base_of(&name));
            if name == SPARE || base.is_some_and(is_removed) {
                self.directory.remove(&name)?;
            }
        }
        self.directory.sync()
    }

    /// Notes the seq after which this process continues; false if the disk has no room for that. If
    /// all events of this process are lost, the next one has to skip more seqs.
    pub(super) fn note_start(&self, last: Seq) -> io::Result<bool> {
        if is_planted!(StartIsNotNoted) {
            return Ok(true);
        }
        match keeper::note_start(&self.directory, last) {
            // A hub should start even on a full disk. The writer notes the seq before it is needed.
            Err(error) if is_full(&error) => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Cuts the last segment after its last batch: an unfinished write must not come back after the
    /// next crash. A segment without batches is removed. The last batches are written again,
    /// unchanged: if their fsync failed, the kernel takes them for written, and a further fsync
    /// would not write them.
    pub(super) fn cut_off_tail(&self, contents: &LogContents) -> Result<(), OpenError> {
        let Some(segment) = contents.segments.last() else { return Ok(()) };
        let name = segment::file_name(segment.base);
        if !segment.has_batches() {
            return self.directory.remove(&name).map_err(OpenError::io(&name));
        }
        let file = self.directory.open(&name).map_err(OpenError::io(&name))?;
        let cut = || {
            file.set_len(segment.bytes)?;
            if !contents.was_closed && !is_planted!(TailIsTrusted) {
                write_again(&file, segment.unproven)?;
            }
            file.sync()
        };
        cut().map_err(OpenError::io(&name))
    }
}

/// Writes the content of a file again, unchanged, from `at` on.
fn write_again(file: &impl DirectoryFile, mut at: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = file.read_full_at(&mut block, at)?;
        if read == 0 {
            return Ok(());
        }
        file.write_all_at(&block[..read], at)?;
        at += read as u64;
    }
}

/// Bytes that are read and written again at a time.
const BLOCK_BYTES: usize = 1 << 20;
