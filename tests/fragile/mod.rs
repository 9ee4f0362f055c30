//! A file system in memory whose power can be cut (FUSE): what was not fsynced is lost then, wholly
//! or in part, names in a directory that was not fsynced too. It also fails, hangs and lies as a
//! test wants it.
//!
//! Unlike a killed process, which leaves the kernel's page cache behind, a cut of its power shows
//! whether a program fsyncs what it has to.
#![allow(dead_code, reason = "each test program uses a part of it")]

mod files;
mod server;
mod state;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, Errno, MountOption, Session};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::Hub;

pub(crate) use files::Lost;
use server::Server;
pub(crate) use state::{Call, Lie};
use state::{Power, State};

/// A file system that is mounted as long as this lives.
pub(crate) struct FragileDisk {
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    directory: TempDir,
}

impl FragileDisk {
    /// Mounts a new one, which is empty. Says what is skipped if this machine does not allow for
    /// that.
    pub(crate) fn mount(seed: u64) -> Option<Self> {
        match Self::try_mount(seed) {
            Ok(disk) => Some(disk),
            Err(error) => {
                println!("SKIPPED: Fuse does not work on this machine: {error}");
                None
            }
        }
    }

    /// As [`mount`](Self::mount).
    pub(crate) fn try_mount(seed: u64) -> std::io::Result<Self> {
        unmount_what_was_left_behind();
        let directory = tempfile::tempdir()?;
        let state = Arc::new(Mutex::new(State::new(seed)));
        let mut config = Config::default();
        let name = format!("{NAME}{}", std::process::id());
        config.mount_options = vec![MountOption::FSName(name), MountOption::NoSuid];
        let server = Server::new(Arc::clone(&state));
        let session = Session::new(server, directory.path(), &config)?.spawn()?;
        Ok(Self { state, session: Some(session), directory })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// From now on it lies like this, or no more.
    pub(crate) fn lie(&self, lie: Option<Lie>) {
        self.state.lock().lie = lie;
    }

    /// The next call of this kind fails; those after it do not. After a failed fsync what it was
    /// for can still be read, and no later fsync makes it durable, as with Linux.
    pub(crate) fn fail_once(&self, call: Call, error: Errno) {
        self.state.lock().failure = Some((call, error));
    }

    /// Whether the failure that was planned has happened.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.lock().failure.is_none()
    }

    /// Bytes that all its files together may have.
    pub(crate) fn limit_room(&self, bytes: u64) {
        self.state.lock().room = bytes;
    }

    /// How long an fsync of a file takes.
    pub(crate) fn set_sync_time(&self, time: Duration) {
        self.state.lock().sync_time = time;
    }

    /// From now on an fsync of a file has no answer until this is taken back.
    pub(crate) fn hang(&self, hangs: bool) {
        let mut state = self.state.lock();
        state.hangs = hangs;
        if !hangs {
            state.answer_hung();
        }
    }

    /// Calls of fsync for files so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// The power is cut in the midst of the call that changes something for the `calls`th time from
    /// now.
    pub(crate) fn stop_at(&self, calls: u64) {
        let mut state = self.state.lock();
        state.stop_at = Some(state.calls + calls);
    }

    /// The same for the `calls`th time after the next segment has its name.
    pub(crate) fn stop_behind_name_of_segment(&self, calls: u64) {
        self.state.lock().stop_behind_spare = Some(calls);
    }

    /// The same at one of the next calls.
    pub(crate) fn stop_soon(&self) {
        let mut state = self.state.lock();
        let more = state.rng.u64(1..40);
        state.stop_at = Some(state.calls + more);
    }

    /// Waits until that has happened, or a time.
    pub(crate) async fn stopped_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while self.state.lock().power == Power::On {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(1)).await;
        }
        true
    }

    /// Cuts the power, if that has not happened, which ends the hub too; then it is on again. What
    /// was lost.
    pub(crate) async fn cut_power(&self, hub: &mut Hub) -> Lost {
        // The kernel waits for answers before it ends a process.
        hub.signal(rustix::process::Signal::KILL).expect("it runs");
        self.state.lock().go_off();
        hub.kill().await.expect("it ends");
        self.state.lock().go_on()
    }

    /// Ends the calls of a hub that is being killed: the kernel waits for their answers.
    pub(crate) fn fail_calls(&self) {
        self.state.lock().go_off();
    }

    /// Cuts the power where no hub runs.
    pub(crate) fn cut_power_alone(&self) -> Lost {
        let mut state = self.state.lock();
        state.go_off();
        state.go_on()
    }
}

impl Drop for FragileDisk {
    fn drop(&mut self) {
        self.state.lock().go_off();
        unmount(self.path());
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

/// At once, though files are open.
fn unmount(path: &Path) {
    let mut command = Command::new("umount");
    command.arg("-l").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}

/// A test that was killed has left its file system behind, with its process id in the name.
fn unmount_what_was_left_behind() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let process = fields.next().and_then(|name| name.strip_prefix(NAME));
        if let (Some(process), Some(path)) = (process, fields.next())
            && !PathBuf::from("/proc").join(process).exists()
        {
            unmount(Path::new(path));
        }
    }
}

/// Of the file system, before the process id.
const NAME: &str = "visnyk-test-";
