//! The memory of this process.

/// Bytes of memory that the process has, shared libraries included; `None` where the system does
/// not say.
pub fn resident_bytes() -> Option<u64> {
    // A file of the kernel's, which does not block.
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(page_bytes())
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
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
