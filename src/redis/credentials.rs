//! What a hub shows its server, and what it trusts the server by: a password and root certificates.
//! Their files are read again for each connection, since an operator may replace them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::auth::{Secret, bounded_file};

/// A password and root certificates. Clones share what was read last.
#[derive(Debug, Clone)]
pub struct Credentials {
    password: Credential,
    ca: Credential,
    /// The permit to read the files: a read that hangs keeps it, and no other one begins.
    reading: Arc<Semaphore>,
}

/// One of the two.
#[derive(Debug, Clone, Default)]
struct Credential {
    /// Its file, if it has one.
    path: Option<PathBuf>,
    /// What the file had when it was read last.
    content: Arc<Mutex<Secret>>,
}

impl Default for Credentials {
    /// No password, and the root certificates of this machine.
    fn default() -> Self {
        let reading = Arc::new(Semaphore::new(1));
        Self { password: Credential::default(), ca: Credential::default(), reading }
    }
}

impl Credentials {
    /// The password that this file has. One line end at its end does not belong to it.
    ///
    /// # Errors
    /// A file that cannot be read, is empty, or has more than a megabyte.
    pub fn with_password_file(self, path: &Path) -> io::Result<Self> {
        Ok(Self { password: Credential::of_file(path)?, ..self })
    }

    /// Root certificates in PEM, one of which must have signed the server's.
    ///
    /// # Errors
    /// As with [`with_password_file`](Self::with_password_file).
    pub fn with_ca_file(self, path: &Path) -> io::Result<Self> {
        Ok(Self { ca: Credential::of_file(path)?, ..self })
    }

    /// The password that was read last; empty without a file.
    pub(super) fn password(&self) -> Secret {
        self.password.content.lock().clone()
    }

    /// The root certificates that were read last; none for those of this machine.
    pub(super) fn ca(&self) -> Option<Bytes> {
        self.ca.path.as_ref()?;
        Some(Bytes::copy_from_slice(self.ca.content.lock().expose()))
    }

    /// Reads the files again, one read of them at a time. A file that cannot be read keeps
    /// the content that it had. Waits a short time: what a slow file system gives later is used by
    /// the next connection.
    pub(super) async fn refresh(&self) {
        if self.password.path.is_none() && self.ca.path.is_none() {
            return;
        }
        let refreshed = async {
            let permit = Arc::clone(&self.reading).acquire_owned().await;
            let credentials = self.clone();
            let read = spawn_blocking(move || {
                credentials.password.refresh();
                credentials.ca.refresh();
                drop(permit);
            });
            let _ = read.await;
        };
        let _ = timeout(READ_WAIT, refreshed).await;
    }
}

impl Credential {
    fn of_file(path: &Path) -> io::Result<Self> {
        let content = Arc::new(Mutex::new(read(path)?));
        Ok(Self { path: Some(path.to_owned()), content })
    }

    fn refresh(&self) {
        let Some(path) = &self.path else { return };
        match read(path) {
            Ok(content) => *self.content.lock() = content,
            Err(error) => tracing::debug!(
                path = %path.display(),
                %error,
                "cannot read a file of the backend's credentials again; its last content is used"
            ),
        }
    }
}

/// The content of a file. An empty one is being written, or was by mistake: no password would be
/// sent, and no certificate trusted.
fn read(path: &Path) -> io::Result<Secret> {
    let content = Secret::from_file(bounded_file::read(path, FILE_BYTES_MAX)?);
    if content.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
    }
    Ok(content)
}

/// How long a connection waits for both files.
const READ_WAIT: Duration = Duration::from_millis(100);
/// Limit of such a file. Passwords and certificates are a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_gone_or_empty_keeps_what_was_read_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "one\n").expect("written");
        let credentials = Credentials::default();
        let credentials = credentials.with_password_file(&path).expect("it is read");
        let credentials = credentials.with_ca_file(&path).expect("it is read");
        let content = async || {
            credentials.refresh().await;
            let password = credentials.password().expose().to_vec();
            assert_eq!(credentials.ca().expect("a file"), password);
            String::from_utf8(password).expect("text")
        };
        assert_eq!(content().await, "one");
        fs::write(&path, "two").expect("written");
        assert_eq!(content().await, "two");
        for unreadable in ["", "\n", &"x".repeat(FILE_BYTES_MAX as usize + 1)] {
            fs::write(&path, unreadable).expect("written");
            assert_eq!(content().await, "two", "{} bytes", unreadable.len());
            let refused = Credentials::default().with_ca_file(&path).expect_err("not at the start");
            assert!(refused.to_string().starts_with("it is"), "{refused}");
        }
        fs::remove_file(&path).expect("removed");
        assert_eq!(content().await, "two");
        assert!(Credentials::default().ca().is_none(), "those of this machine");
    }

    #[tokio::test]
    async fn of_a_file_system_that_hangs_one_read_waits_and_what_comes_late_is_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "one").expect("written");
        let credentials = Credentials::default().with_password_file(&path).expect("it is read");
        fs::remove_file(&path).expect("removed");
        // To open it waits until somebody writes to it.
        assert!(Command::new("mkfifo").arg(&path).status().expect("it runs").success());
        let began = Instant::now();
        credentials.refresh().await;
        assert!(began.elapsed() >= READ_WAIT);
        assert_eq!(credentials.reading.available_permits(), 0, "the read is under way");
        // A second one waits for the permit as long, and does not begin.
        credentials.refresh().await;
        assert_eq!(Arc::strong_count(&credentials.reading), 2, "that of the read and this one");
        assert_eq!(credentials.password().expose(), b"one");
        let writing = spawn_blocking(move || fs::write(&path, "two"));
        writing.await.expect("it ends").expect("written");
        let began = Instant::now();
        while credentials.password().expose() != b"two" {
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", credentials.password());
            sleep(Duration::from_millis(5)).await;
        }
    }
}
