//! One run under callgrind, and what its profile says.
//!
//! Source: valgrind manual, "Callgrind Format Specification".

use std::{
    ffi::OsString,
    fs,
    ops::{Div, Sub},
    path::Path,
    process::Command,
};

use crate::load::Load;

/// What a run did, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counts {
    /// Instructions of this program, libraries left out.
    pub(crate) instructions: f64,
    /// Calls that allocate.
    pub(crate) allocations: f64,
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            instructions: self.instructions - other.instructions,
            allocations: self.allocations - other.allocations,
        }
    }
}

impl Div<f64> for Counts {
    type Output = Self;

    fn div(self, by: f64) -> Self {
        Self { instructions: self.instructions / by, allocations: self.allocations / by }
    }
}

/// Runs the path `name` under callgrind and counts what its first thread does: how often the others
/// go to sleep is chance. Threads run in turn, or how often this one waits for them would be too.
pub(crate) fn count(name: &str, load: Load) -> Result<Counts, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let profiles = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut out_file = OsString::from("--callgrind-out-file=");
    out_file.push(profiles.path().join("profile"));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--fair-sched=try"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(out_file)
        .arg(&program)
        .args(["run", name, &load.size.to_string(), &load.rounds.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind ({error}): is it installed?"))?;
    if !run.status.success() {
        return Err(format!("{name} under valgrind: {}", String::from_utf8_lossy(&run.stderr)));
    }
    let first_thread = profiles.path().join("profile-01");
    let profile = fs::read_to_string(first_thread).map_err(|error| error.to_string())?;
    Ok(read(&profile, &program))
}

/// Adds up the instructions of `program` itself and the calls that allocate.
fn read(profile: &str, program: &Path) -> Counts {
    let program = format!("ob={}", program.display());
    let mut counts = Counts { instructions: 0.0, allocations: 0.0 };
    let (mut is_ours, mut allocates, mut is_call) = (false, false, false);
    for line in profile.lines() {
        if line.starts_with("ob=") {
            is_ours = line == program;
        } else if let Some(callee) = line.strip_prefix("cfn=") {
            // A recursive call has the name with a number behind it.
            let callee = callee.split('\'').next().unwrap_or(callee);
            allocates = ALLOCATING.contains(&callee);
        } else if let Some(call) = line.strip_prefix("calls=") {
            if allocates {
                counts.allocations += first_number(call);
            }
            // The next line is what the callee took, and counted where it did.
            is_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit()) {
            if is_ours && !is_call {
                counts.instructions += line.split(' ').nth(1).map_or(0.0, first_number);
            }
            is_call = false;
        }
    }
    counts
}

fn first_number(text: &str) -> f64 {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The C library's functions through which Rust's default allocator allocates.
const ALLOCATING: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];
