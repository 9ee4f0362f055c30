//! What a server and the kernel spend, from /proc.

use std::collections::BTreeMap;
use std::fs;

use crate::failure::Failure;

/// The state of a server's processes at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerSample {
    /// CPU time of each thread, by its id, in nanoseconds.
    threads: BTreeMap<u32, u64>,
    /// Resident memory of all processes.
    pub(crate) resident_bytes: u64,
    /// Of it, what is neither of files nor shared.
    pub(crate) anonymous_bytes: u64,
    /// The kernel's slab, of the whole machine: both ends of each connection.
    pub(crate) slab_bytes: u64,
    /// What TCP counts as its buffers, of the whole machine.
    pub(crate) tcp_bytes: u64,
}

impl ServerSample {
    /// Reads it now.
    pub(crate) fn take(pids: &[u32]) -> Result<Self, Failure> {
        let mut sample =
            Self { slab_bytes: slab_bytes(), tcp_bytes: tcp_bytes(), ..Self::default() };
        for pid in pids {
            let path = format!("/proc/{pid}/status");
            let status =
                fs::read_to_string(&path).map_err(Failure::io(format!("reading {path}")))?;
            sample.resident_bytes += kib(&status, "VmRSS:");
            sample.anonymous_bytes += kib(&status, "RssAnon:");
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))
                .map_err(Failure::io(format!("reading the threads of {pid}")))?;
            for task in tasks.flatten() {
                let id = task.file_name().to_string_lossy().parse().unwrap_or(0);
                // A thread may end between the listing and the reading.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let spent = text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
                sample.threads.insert(id, spent);
            }
        }
        Ok(sample)
    }

    /// CPU time spent since `before` by the threads that there are now, in nanoseconds.
    pub(crate) fn cpu_ns_since(&self, before: &Self) -> u64 {
        let since = |(id, spent): (&u32, &u64)| {
            spent.saturating_sub(before.threads.get(id).copied().unwrap_or(0))
        };
        self.threads.iter().map(since).sum()
    }

    /// Threads of `before` that have ended: what they spent since is not counted.
    pub(crate) fn threads_ended_since(&self, before: &Self) -> u64 {
        before.threads.keys().filter(|id| !self.threads.contains_key(id)).count() as u64
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> u64 {
        self.threads.len() as u64
    }
}

fn slab_bytes() -> u64 {
    kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:")
}

fn tcp_bytes() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let mut words = tcp.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    let pages = words.next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_spends_time() {
        let pid = [std::process::id()];
        let before = ServerSample::take(&pid).expect("it is this process");
        assert!(before.resident_bytes > before.anonymous_bytes && before.anonymous_bytes > 0);
        assert!(before.slab_bytes > 0);
        assert!(before.threads() > 0);
        let until = std::time::Instant::now() + std::time::Duration::from_millis(20);
        while std::time::Instant::now() < until {}
        let after = ServerSample::take(&pid).expect("it is this process");
        assert!(after.cpu_ns_since(&before) > 0);
    }

    #[test]
    fn time_is_counted_by_thread() {
        let sample = |threads: &[(u32, u64)]| ServerSample {
            threads: threads.iter().copied().collect(),
            ..ServerSample::default()
        };
        let before = sample(&[(1, 100), (2, 50)]);
        let after = sample(&[(1, 130), (3, 7)]);
        assert_eq!(after.cpu_ns_since(&before), 37);
        assert_eq!(after.threads_ended_since(&before), 1);
    }
}
