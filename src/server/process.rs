//! Settings of the process itself: the limit of open files, and huge pages.

/// Prepares this process for many connections: raises the soft limit of open files to the hard
/// limit, and turns transparent huge pages off (docs/adr/007-allocator.md). If the kernel refuses,
/// that is logged, and the hub has fewer connections or needs more memory.
pub fn prepare() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum {
            let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
            if let Err(error) = raised {
                tracing::warn!(%error, "cannot raise the limit of open files");
            }
        }
        tracing::info!(open_files_max = maximum, "limit of open files");
        if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
            tracing::warn!(%error, "cannot turn transparent huge pages off");
        }
    }
}
