//! The machine and the limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;
use crate::outcome::Machine;

/// Raises the soft limit of open files to the hard one and gives what it then is.
pub fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Refused, it stays as it was, and that is what is said.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether this process can have so many connections.
pub(crate) fn check_connections(connections: usize) -> Result<(), Failure> {
    let nofile = raise_open_files();
    if connections as u64 + FILES_BESIDE <= nofile {
        return Ok(());
    }
    Err(Failure::Unsupported(format!(
        "{connections} connections with {nofile} open files; raise the hard limit (ulimit -Hn)"
    )))
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0);
        Self {
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory_bytes: memory_kib * 1024,
            nofile: raise_open_files(),
        }
    }
}

/// Publishers, pipes, epolls and the like.
const FILES_BESIDE: u64 = 150;
