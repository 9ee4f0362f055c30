//! Time that processes of one machine share, and what a thread has spent.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock. Other than `Instant`, it can stand in an event.
pub(crate) fn now_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
