//! Processor time of threads, and how long they waited for it: it separates what the honest waited
//! for the scheduler from what they waited for the hub.

use std::{fs, ops::Sub, path::Path, time::Duration};

/// Of some threads, since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Processor {
    /// They ran.
    pub(crate) ran: Duration,
    /// They were ready to run, and others ran.
    pub(crate) waited: Duration,
}

impl Processor {
    /// Of all threads of a process, those that have ended excepted.
    pub(crate) fn of_process(pid: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.fold(Self::default(), |sum, task| {
            let one = Self::read(&task.path());
            Self { ran: sum.ran + one.ran, waited: sum.waited + one.waited }
        })
    }

    /// Of the thread that asks.
    pub(crate) fn of_this_thread() -> Self {
        Self::read(Path::new("/proc/thread-self"))
    }

    /// Nothing, where the kernel does not account for it.
    fn read(task: &Path) -> Self {
        let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let mut ns = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        let mut next = || Duration::from_nanos(ns.next().unwrap_or(0));
        Self { ran: next(), waited: next() }
    }
}

impl Sub for Processor {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}
