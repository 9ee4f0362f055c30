//! Figures of the process, with the names that all exporters use. They are read at each scrape.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::process::{Resource, getrlimit};

use super::resident::{resident_bytes, virtual_bytes};

/// The figures, as the kernel reports them (proc_pid_stat(5)). Figures that it does not report are
/// left out.
#[derive(Debug)]
pub(super) struct Process {
    /// In seconds since 1970.
    started: Option<f64>,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { started: started() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name, help, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_resident_memory_bytes",
            "Bytes of memory that the process has",
            resident_bytes().map(|bytes| bytes as f64),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Bytes of address space that the process has",
            virtual_bytes().map(|bytes| bytes as f64),
        )?;
        gauge("process_open_fds", "Open files and sockets", open_files())?;
        gauge(
            "process_max_fds",
            "Files and sockets that may be open",
            getrlimit(Resource::Nofile).current.map(|max| max as f64),
        )?;
        gauge("process_start_time_seconds", "When the process started, since 1970", self.started)?;
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let descriptor = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time that the process has used, its own and the kernel's for it",
                None,
                counter.metric_type(),
            )?;
            counter.encode(descriptor)?;
        }
        Ok(())
    }
}

/// The number of open files. Since Linux 6.2 it is the size of the directory; earlier kernels show
/// 0, and the entries are counted.
fn open_files() -> Option<f64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        // The directory that is being read is one of them.
        0 => Some(fs::read_dir(directory).ok()?.count().saturating_sub(1) as f64),
        files => Some(files as f64),
    }
}

/// Processor time that the process has used.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    Some((field(&stat, UTIME)? + field(&stat, STIME)?) / TICKS_PER_S)
}

/// When the process started, in seconds since 1970. The kernel gives the time since the boot; the
/// wall clock and the uptime give the time of the boot.
fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let after_boot = field(&stat, STARTTIME)? / TICKS_PER_S;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some(now - uptime + after_boot)
}

/// A field by its number. The second is a name, which may hold blanks and brackets.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

/// The unit in which the kernel shows times, on x86-64 and aarch64 alike (`USER_HZ`). Reading it
/// from the auxiliary vector would end a process under valgrind.
const TICKS_PER_S: f64 = 100.0;
const UTIME: usize = 14;
const STIME: usize = 15;
const STARTTIME: usize = 22;

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Instant};

    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name_whatever_that_is() {
        let stat = "7 (a) b 9) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        assert_eq!(field(stat, 4), Some(1.0));
        assert_eq!(field(stat, UTIME), Some(11.0));
        assert_eq!(field(stat, 99), None);
    }

    #[test]
    fn the_figures_are_those_of_this_process() {
        let now =
            || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let began = started().expect("a time");
        assert!(began > now() - 24.0 * 3_600.0 && began <= now() + 1.0, "{began}");
        let (resident, whole) =
            (resident_bytes().expect("memory"), virtual_bytes().expect("memory"));
        assert!(resident > 1_000_000 && whole > resident, "{resident} {whole}");
        let files = open_files().expect("a number");
        let held: Vec<File> = (0..100).map(|_| File::open("/dev/null").expect("a file")).collect();
        let more = open_files().expect("a number");
        // Other tests open and close files meanwhile.
        assert!(more > files + 50.0, "{files} and {more}");
        drop(held);
        let (used, spinning) = (cpu_seconds().expect("a time"), Instant::now());
        while cpu_seconds().expect("a time") < used + 0.05 {
            assert!(spinning.elapsed().as_secs() < 60, "it does not move");
        }
    }
}
