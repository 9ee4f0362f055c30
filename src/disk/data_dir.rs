//! The directory of a log on a real file system.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::{
    directory::{Directory, DirectoryFile, is_full},
    error::OpenError,
    meta::{self, LOCK},
};

/// The directory of a log, locked: no other process uses it while this value exists.
#[derive(Debug)]
pub struct DataDir {
    directory: LocalDirectory,
    identity: u64,
}

impl DataDir {
    /// Opens a directory, which is created if necessary, and locks it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let io = |error| OpenError::Io { file: shown.clone(), error };
        create(path).map_err(io)?;
        let directory = File::open(path).map_err(io)?;
        let identity = directory.metadata().map_err(io)?.ino();
        // A directory with files of something else does not get a lock file.
        let names = names(path).map_err(io)?;
        if !names.iter().any(|name| name == LOCK)
            && let Some(file) = meta::foreign_file(names)
        {
            return Err(OpenError::Foreign { file });
        }
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(OpenError::io(LOCK))?;
        // The lock is held as long as the file is open. The process id in the file is only for the
        // error message: in containers every process is number 1.
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(OpenError::Io { file: LOCK.into(), error: error.into() });
            }
            let mut text = String::new();
            let _ = lock.take(20).read_to_string(&mut text);
            return Err(OpenError::Locked { process: text.trim().parse().ok() });
        }
        // A full disk may have no room for the process id.
        match lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())) {
            Err(error) if !is_full(&error) => return Err(OpenError::io(LOCK)(error)),
            _ => {}
        }
        let directory = LocalDirectory { path: path.to_owned(), directory, _lock: lock };
        Ok(Self { directory, identity })
    }

    /// Opens the directory of a log that exists.
    pub fn open_existing(path: &Path) -> Result<Self, OpenError> {
        let meta = fs::metadata(path);
        meta.map_err(OpenError::io(path.display().to_string()))?;
        Self::open(path)
    }

    /// The inode of the directory, which distinguishes it from a copy.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// The name of the file system, if a log on it is less safe than it seems.
    pub fn doubtful_file_system(&self) -> Option<&'static str> {
        let kind = rustix::fs::fstatfs(&self.directory.directory).ok()?.f_type;
        // From linux/magic.h.
        Some(match kind as u64 {
            0x0102_1994 => "tmpfs: it is gone when the machine stops",
            0x6969 => "NFS: locks and fsync depend on its server",
            0xff53_4d42 | 0xfe53_4d42 => "SMB: locks and fsync depend on its server",
            0x794c_7630 => "overlayfs: it is gone with its container",
            _ => return None,
        })
    }

    /// The files of the directory.
    pub fn into_directory(self) -> LocalDirectory {
        self.directory
    }
}

/// The files of a [`DataDir`].
#[derive(Debug)]
pub struct LocalDirectory {
    path: PathBuf,
    directory: File,
    _lock: File,
}

impl Directory for LocalDirectory {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        names(&self.path)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<File> {
        let path = self.path.join(name);
        match uninterrupted(|| fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        if len > 0 {
            // A signal may interrupt the call.
            let allocate = || fallocate(&file, FallocateFlags::empty(), 0, len);
            match rustix::io::retry_on_intr(allocate) {
                Err(rustix::io::Errno::OPNOTSUPP) => allocate_by_writing(&file, len)?,
                result => result?,
            }
        }
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        uninterrupted(|| fs::rename(&from, &to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        uninterrupted(|| fs::remove_file(&path))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

impl DirectoryFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Repeats a call that a signal has interrupted, as some file systems allow.
fn uninterrupted(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Creates a directory and its parents, if necessary. Each directory in which one was created is
/// fsynced: otherwise a power cut could remove the new directory, with all that was fsynced in it.
fn create(path: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for created in missing {
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// The names of the files of a directory.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Leaves out directories, such as `lost+found`.
        if !entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Allocates a file on a file system that cannot do so without a write.
fn allocate_by_writing(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let bytes = zeros.len().min((len - at) as usize);
        FileExt::write_all_at(file, &zeros[..bytes], at)?;
        at += bytes as u64;
    }
    Ok(())
}
