//! A directory for the files of one server.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use visnyk_loadtest::Failure;

/// A new directory, removed with all it holds when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("visnyk-compare-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // It must not exist yet.
        std::fs::create_dir(&path).map_err(Failure::io(format!("making {}", path.display())))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
