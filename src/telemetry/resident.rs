//! The memory of this process.

/// Bytes of memory that the process has, shared libraries included; `None` where the system does
/// not say.
pub fn resident_bytes() -> Option<u64> {
    memory_bytes(1)
}

/// Bytes of its address space; `None` where the system does not say.
pub(super) fn virtual_bytes() -> Option<u64> {
    memory_bytes(0)
}

/// A field of `/proc/self/statm` (proc_pid_statm(5)), a file of the kernel's, which does not block.
fn memory_bytes(field: usize) -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(field)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
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
