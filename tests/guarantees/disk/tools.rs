//! What this machine has for breaking things. A test whose tool is missing says so and ends.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::clock_steps::LIBRARIES;

/// A way to make a process fail from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `strace -e inject`: it has to be there, and ptrace allowed.
    Strace,
    /// Mounts in a namespace of their own.
    Mounts,
    /// libfaketime, preloaded.
    FakeTime,
}

impl Tool {
    /// Whether it works here; says what is skipped if not.
    pub(crate) fn is_there(self) -> bool {
        let works = match self {
            Self::Strace => succeeds("strace", &["-D", "-f", "-o", "/dev/null", "true"]),
            Self::Mounts => {
                succeeds("unshare", &["-m", "sh", "-c", "mount -t tmpfs -o size=1M tmpfs /mnt"])
            }
            Self::FakeTime => fake_time().is_some(),
        };
        if !works {
            println!("SKIPPED: {self:?} does not work on this machine");
        }
        works
    }
}

/// The library that changes what a process takes for the time.
pub(crate) fn fake_time() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).exists())
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `tests/run` prints what this says.
#[test]
fn probe_of_what_the_machine_allows() {
    for tool in [Tool::Strace, Tool::Mounts, Tool::FakeTime] {
        if tool.is_there() {
            println!("{tool:?} works");
        }
    }
}
