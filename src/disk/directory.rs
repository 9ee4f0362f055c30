//! What the log needs of a file system, so that tests can simulate one.

use std::io;

/// One flat directory of files.
pub trait Directory: Send + Sync + 'static {
    /// An open file of the directory.
    type File: DirectoryFile;

    /// The names of the files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Creates a file of `len` bytes, all zero, whose blocks are allocated: writing within them
    /// cannot fail for lack of room. Replaces a file of this name.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;

    /// Renames a file. Replaces a file of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "it asks the file system, and may fail")]
pub trait DirectoryFile: Send + Sync + 'static {
    /// The length of the file in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 is the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the content and the length of the file durable.
    fn sync(&self) -> io::Result<()>;

    /// Reads until `buffer` is full or the file ends; returns how many bytes there were.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// Whether an error is temporary: the process or the machine has no file or no memory left at the
/// moment, or a signal interrupted the call. The call can be repeated, unless it was a sync
/// ([`of_sync`]).
pub(super) fn is_temporary(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN))
}

/// The error of a sync, which is never [temporary](is_temporary): a second sync may succeed
/// although the kernel has dropped the data that the first one failed to write.
pub(super) fn of_sync(error: io::Error) -> io::Error {
    if is_temporary(&error) { io::Error::other(error) } else { error }
}

/// Whether an error says that the disk is full, or the quota of this user on it.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
