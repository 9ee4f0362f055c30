//! What an fsync takes on this machine, and how to make it take longer.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::latencies;
use crate::failure::Failure;

/// How long `fdatasync(2)` took after an append to a growing file, in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FsyncUs {
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// A command whose every `fdatasync(2)` and `fsync(2)` takes so much longer, by `strace`, which ends
/// with it. Its process id is that of `program`, and its other system calls are not traced.
#[must_use]
pub fn delayed_fsyncs(delay_ms: u32, program: &Path) -> Command {
    let mut command = Command::new("strace");
    // -D: the tracer is a grandchild, so that the child is the program.
    command.args(["-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"]);
    command.args(["-e", "trace=fsync,fdatasync", "-e", "signal=none"]);
    command.arg("-e").arg(format!("inject=fsync,fdatasync:delay_enter={delay_ms}ms"));
    command.arg(program);
    command
}

/// Measures it in a process of its own, delayed as the server's.
pub(crate) fn measure(delay_ms: u32) -> Result<FsyncUs, Failure> {
    let doing = "measuring an fsync";
    let program = std::env::current_exe().map_err(Failure::io("finding this program"))?;
    let mut command =
        if delay_ms == 0 { Command::new(program) } else { delayed_fsyncs(delay_ms, &program) };
    let output = command.arg("fsync").output().map_err(Failure::io(doing))?;
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
    let mut took_us = latencies();
    let started = Instant::now();
    for _ in 0..COUNT_MAX {
        file.write_all(&[b'x'; APPENDED_BYTES])?;
        let before = Instant::now();
        file.sync_data()?;
        took_us.saturating_record(before.elapsed().as_micros() as u64);
        if started.elapsed() > LONGEST {
            break;
        }
    }
    let at = |quantile| took_us.value_at_quantile(quantile);
    Ok(FsyncUs { mean: took_us.mean(), p50: at(0.5), p99: at(0.99) })
}

/// About an event of 256 bytes with its header.
const APPENDED_BYTES: usize = 300;
const COUNT_MAX: u32 = 2_000;
const LONGEST: Duration = Duration::from_secs(2);
