//! A hub with a log on disk, which can be started again where it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;
use visnyk_loadtest::HubCommand;

use crate::support::{TestHub, script_in};

/// A directory of a log, and where its hub listens.
pub(crate) struct DiskHub {
    directory: TempDir,
    data_dir: PathBuf,
    program: PathBuf,
    settings: Vec<(&'static str, String)>,
    environment: Vec<(&'static str, String)>,
    listen: String,
}

impl DiskHub {
    /// A new directory. Nothing in its log is removed by itself.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // An address of its own: a client on 127.0.0.1 that tries to reach a hub which is away
        // could get its port, and be connected to itself.
        let part = || fastrand::u8(1..255);
        Self {
            data_dir: directory.path().join("data"),
            directory,
            program: VISNYK.into(),
            settings: Vec::new(),
            environment: Vec::new(),
            listen: format!("127.{}.{}.{}:0", part(), part(), part()),
        }
        .set("shards", "2")
        .set("limits.history.events_max", "1000000")
        .set("limits.history.bytes_max", "200000000")
        // Many segments.
        .set("log.segment_bytes", "131072")
        .set("drain_window_s", "1")
    }

    /// Sets a setting.
    pub(crate) fn set(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }

    /// The directory of the log.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its next starts are in this directory.
    pub(crate) fn move_to(&mut self, data_dir: PathBuf) {
        self.data_dir = data_dir;
    }

    /// A directory for what a test needs beside the log.
    pub(crate) fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Its next starts are of this program, which is given the arguments of the hub.
    pub(crate) fn run_by(&mut self, program: impl Into<PathBuf>) {
        self.program = program.into();
    }

    /// Its next starts have these variables.
    pub(crate) fn with_environment(&mut self, environment: &[(&'static str, &str)]) {
        self.environment =
            environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    }

    /// Starts it, where it was before.
    pub(crate) async fn start(&mut self) -> TestHub {
        let hub = TestHub::start_with(self.command()).await;
        self.listen = hub.address().to_string();
        hub
    }

    /// Starts it, and kills it if it is not up after a time.
    pub(crate) async fn start_within(&mut self, time: Duration) -> Option<TestHub> {
        let started = timeout(time, self.command().start()).await.ok()?;
        Some(TestHub::from(started.expect("the hub starts")))
    }

    /// Starts it though it will not go on; what it said.
    pub(crate) async fn start_refused(&self) -> String {
        let error = self.command().start().await.expect_err("it does not start");
        error.to_string()
    }

    /// How it is started.
    pub(crate) fn command(&self) -> HubCommand {
        let settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let command = HubCommand::new(&self.program)
            .listen(&self.listen)
            .settings(&settings)
            .arg("--data-dir")
            .arg(&self.data_dir);
        self.environment.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// A program that runs a hub by `script`, in which `"$@"` are its arguments.
    pub(crate) fn script(&self, name: &str, script: &str) -> PathBuf {
        script_in(self.scratch(), name, script)
    }
}

/// The hub.
pub(crate) const VISNYK: &str = env!("CARGO_BIN_EXE_visnyk");
