//! What an fsync takes on this machine, and how to make it take longer.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use serde::{Deserialize, Serialize};

use crate::client::latencies;
use crate::failure::Failure;

/// How long an append to an allocated file and its `fdatasync(2)` took, in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FsyncUs {
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// Makes each `fsync(2)` and `fdatasync(2)` of a process take longer, by a library that is
/// preloaded. `strace` can delay system calls too, but slowed the process down far beyond these
/// calls.
#[derive(Debug)]
pub struct SlowFsync {
    delay_ms: u32,
    library: PathBuf,
}

impl SlowFsync {
    /// Compiles the library, with `cc`; it is removed when this is dropped.
    pub fn new(delay_ms: u32) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("visnyk-slow-fsync-{}-{number}.so", std::process::id());
        let slow = Self { delay_ms, library: std::env::temp_dir().join(name) };
        let mut cc = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-x", "c", "-", "-ldl", "-o"])
            .arg(&slow.library)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(Failure::io("starting cc"))?;
        let mut source = cc.stdin.take().expect("stdin is piped");
        source.write_all(SLOW_FSYNC).map_err(Failure::io("writing to cc"))?;
        drop(source);
        let status = cc.wait().map_err(Failure::io("waiting for cc"))?;
        if !status.success() {
            let request = "cc of slow_fsync.c".into();
            return Err(Failure::Refused { request, answer: status.to_string() });
        }
        Ok(slow)
    }

    /// The environment of a process that is to be delayed.
    pub fn env(&self) -> [(&'static str, OsString); 2] {
        let delay_ms = self.delay_ms.to_string().into();
        [("LD_PRELOAD", self.library.clone().into()), ("FSYNC_DELAY_MS", delay_ms)]
    }
}

impl Drop for SlowFsync {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.library);
    }
}

/// Measures it in a process of its own, delayed as the server's.
pub(crate) fn measure(delay_ms: u32) -> Result<FsyncUs, Failure> {
    let doing = "measuring an fsync";
    let program = std::env::current_exe().map_err(Failure::io("finding this program"))?;
    let slow = (delay_ms > 0).then(|| SlowFsync::new(delay_ms)).transpose()?;
    let mut command = Command::new(program);
    command.arg("fsync").envs(slow.iter().flat_map(SlowFsync::env));
    let output = command.output().map_err(Failure::io(doing))?;
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).map_err(|_| Failure::Refused {
        request: doing.into(),
        answer: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    })
}

/// The other process: `visnyk-loadtest fsync`. Prints what it found as a line of JSON.
pub fn measure_fsync() -> Result<(), Failure> {
    let name = format!("visnyk-fsync-{}", std::process::id());
    // Where a hub that is started has its log.
    let path = std::env::temp_dir().join(name);
    let found = append_and_sync(&path);
    let _ = std::fs::remove_file(&path);
    let line = serde_json::to_string(&found.map_err(Failure::io(format!("{}", path.display())))?);
    println!("{}", line.unwrap_or_default());
    Ok(())
}

fn append_and_sync(path: &Path) -> std::io::Result<FsyncUs> {
    let mut file = File::create_new(path)?;
    // As the segments of a log are: growing by each append, the file would cost its file system
    // more.
    let bytes = u64::from(COUNT_MAX) * APPENDED_BYTES as u64;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    let mut took_us = latencies();
    let started = Instant::now();
    for _ in 0..COUNT_MAX {
        let before = Instant::now();
        file.write_all(&[b'x'; APPENDED_BYTES])?;
        file.sync_data()?;
        took_us.saturating_record(before.elapsed().as_micros() as u64);
        if started.elapsed() > LONGEST {
            break;
        }
    }
    let at = |quantile| took_us.value_at_quantile(quantile);
    Ok(FsyncUs { mean: took_us.mean(), p50: at(0.5), p99: at(0.99) })
}

const SLOW_FSYNC: &[u8] = include_bytes!("slow_fsync.c");
/// About an event of 256 bytes with its header.
const APPENDED_BYTES: usize = 300;
const COUNT_MAX: u32 = 2_000;
const LONGEST: Duration = Duration::from_secs(2);
