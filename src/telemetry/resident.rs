//! The memory of this process.

/// Bytes of memory that the process has, shared libraries included; `None` where the system does
/// not say.
pub fn resident_bytes() -> Option<u64> {
    memory_bytes("VmRSS:")
}

/// Bytes of its address space; `None` where the system does not say.
pub(super) fn virtual_bytes() -> Option<u64> {
    memory_bytes("VmSize:")
}

/// A field of `/proc/self/status` (proc_pid_status(5)), a file of the kernel's, which does not
/// block. `/proc/self/statm` counts in pages, and asking for their size by the auxiliary vector
/// ends a process under valgrind.
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
