//! The memory of this process.

/// Bytes of memory of the process, shared libraries included; `None` if the system does not report
/// them.
pub fn resident_bytes() -> Option<u64> {
    memory_bytes("VmRSS:")
}

/// Bytes of its address space; `None` if the system does not report them.
pub(super) fn virtual_bytes() -> Option<u64> {
    memory_bytes("VmSize:")
}

/// A field of `/proc/self/status` (proc_pid_status(5)), a file in the kernel's memory, which does
/// not block. `/proc/self/statm` counts in pages, and reading their size from the auxiliary vector
/// would end a process under valgrind.
fn memory_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_some_memory_and_not_all_there_is() {
        let bytes = resident_bytes().expect("Linux says so");
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
    }
}
