//! What this machine has for breaking things, and how it is used. A test whose tool is missing says
//! so and ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// A program in a directory that runs another one by strace, which injects this into it. The tracer
/// is a grandchild: the program has the process id and the exit code.
pub(crate) fn tracer(program: &Path, inject: &str, directory: &Path) -> PathBuf {
    let call = inject.split(':').next().unwrap_or_default();
    let script = format!(
        "exec strace -D -f --seccomp-bpf -qq -o /dev/null -e trace={call} -e inject={inject} {} \"$@\"",
        program.display()
    );
    script_in(directory, "traced", &script)
}

/// A shell script in a directory.
pub(crate) fn script_in(directory: &Path, name: &str, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("it is written");
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&path, mode).expect("its mode");
    path
}

/// The environment of a process whose wall clock is off by this; the monotonic one is as it is.
pub(crate) fn clock_off_by<'a>(library: &'a str, offset: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("LD_PRELOAD", library),
        ("FAKETIME", offset),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
}

/// Whether a program ends well.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Where distributions put it; the one for programs with threads first.
const LIBRARIES: [&str; 7] = [
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];
