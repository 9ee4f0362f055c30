//! Why a log cannot be opened, or can no longer be written.

use std::io;

use thiserror::Error;

use crate::model::Seq;

/// Why a log was not opened. Nothing in the log was changed, except that an unfinished write at its
/// end may have been cut off.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file system failed.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// The failure.
        error: io::Error,
    },
    /// Another process has the log open.
    #[error("another hub uses it{}", .process.map_or(String::new(), |id| format!(" (process {id})")))]
    Locked {
        /// The id in the lock file: that of the process, as the process itself sees it.
        process: Option<u32>,
    },
    /// The directory has files, but not the one that marks a log.
    #[error(
        "it is not empty and not the log of a hub (there is a file `{file}`); choose an empty directory"
    )]
    Foreign {
        /// One of the files.
        file: String,
    },
    /// The log is a copy, or was restored or moved.
    #[error(
        "it was copied, restored or moved: clients may know events that it does not have. \
         `visnyk log import` makes a new log of it, whose positions clients do not take for those of this one"
    )]
    Moved,
    /// Another version wrote the log.
    #[error("its format is {found}, and this version reads {known}")]
    Format {
        /// The format of the log.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// Events that were durable cannot be read any more.
    #[error(
        "{file} is damaged at byte {offset}: {why}. The last event before it is {}. \
         `visnyk log verify` says more; `visnyk log repair --lose` drops what is behind it",
        .last.0
    )]
    Damaged {
        /// The file.
        file: String,
        /// Where the damage begins.
        offset: u64,
        /// The last event that can be read.
        last: Seq,
        /// What is wrong.
        why: &'static str,
    },
}

impl OpenError {
    /// The error for a small file that does not have the content which was written.
    pub(super) fn damaged_file(name: &str) -> Self {
        let why = "it is not as it was written";
        Self::Damaged { file: name.into(), offset: 0, last: Seq::ZERO, why }
    }

    pub(super) fn io(file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        |error| Self::Io { file, error }
    }
}

/// Why the log can no longer be written. Events that were submitted and not confirmed may be in it
/// or not.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A write failed. It is not repeated: after a failed fsync the kernel takes pages for written
    /// that are not.
    #[error("cannot write to the log: {0}")]
    Io(#[from] io::Error),
    /// The log was stopped while the writer waited for room on the disk.
    #[error("the log was stopped")]
    Stopped,
    /// An earlier call failed.
    #[error("the log has failed before")]
    Failed,
}
