//! The budget of sockets: how many the process may have open, and how many it has.
//!
//! A connection on which requests are read and answered takes a permit here. Streams and waiting
//! polls are admitted by the hub. Both together stay below the file limit, so that other code of
//! the process can still open files. A part of the budget is reserved for requests: a hub that is
//! full of streams still accepts publishes and answers health checks.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::connection_limits::AddressCount;
use crate::{hub::Hub, telemetry::Metrics};

/// How many sockets there may be, in all and for each use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketSplit {
    /// Sockets in all.
    pub(super) sockets_max: usize,
    /// Connections on which requests are read and answered.
    pub(super) requests_max: usize,
    /// Streams and waiting polls.
    pub(super) streams_max: usize,
}

impl SocketSplit {
    /// Splits the file limit `files_max` into sockets for requests and for streams. `files_in_use`
    /// descriptors are open already, or needed by shards, rejections and the log. `requests_max`
    /// and `connections_max` are the limits of the settings, which are lowered if they do not fit.
    pub(super) fn of(
        files_max: Option<u64>,
        files_in_use: usize,
        requests_max: u32,
        connections_max: u32,
    ) -> Self {
        let files_max =
            files_max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let sockets_max = files_max.saturating_sub(files_in_use + FILES_RESERVED).max(2);
        let requests_max = (requests_max as usize).min(sockets_max);
        let for_requests = (sockets_max / RESERVED_FRACTION).max(REQUESTS_MIN).min(requests_max);
        let streams_max =
            (connections_max as usize).min(sockets_max.saturating_sub(for_requests)).max(1);
        Self { sockets_max, requests_max, streams_max }
    }
}

/// The limit of open files of this process (`RLIMIT_NOFILE`); `None` if it is unlimited or unknown.
pub(super) fn files_max() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(target_os = "linux"))]
    None
}

/// Files that are open now, and those that this many shards will open for themselves.
pub(super) fn files_in_use(shards: usize) -> usize {
    let open = fs::read_dir("/proc/self/fd").map_or(FILES_ASSUMED, |files| files.count());
    open + shards * FILES_PER_SHARD
}

/// The budget of sockets, and how many permits are held.
#[derive(Clone)]
pub(super) struct SocketBudget(Arc<BudgetState>);

struct BudgetState {
    hub: Hub,
    split: SocketSplit,
    held: AtomicUsize,
    freed: Notify,
    emptied: Notify,
}

/// A permit for one socket, released when dropped.
pub(super) struct SocketPermit(Arc<BudgetState>);

/// What a connection holds while the HTTP server has it: a permit for its socket, and its count
/// among the sockets of its address. Dropped when the connection ends or is handed off.
pub(super) type ConnectionPermits = (SocketPermit, AddressCount);

/// Why the budget has no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// All sockets of the budget are in use.
    Sockets,
    /// `limits.connections.requests_max` is reached.
    Requests,
    /// The process is at its file limit, although the budget has permits: other code of the process
    /// has opened more files than expected.
    Files,
}

impl Exhausted {
    /// The metric label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sockets => "file_limit",
            Self::Requests => "requests_max",
            Self::Files => "no_file",
        }
    }
}

impl SocketBudget {
    pub(super) fn new(hub: Hub, split: SocketSplit) -> Self {
        let (held, freed, emptied) = (AtomicUsize::new(0), Notify::new(), Notify::new());
        Self(Arc::new(BudgetState { hub, split, held, freed, emptied }))
    }

    /// Waits until no permit is held. Only one task may wait at a time. The wait may be cancelled.
    pub(super) async fn emptied(&self) {
        while self.0.held.load(Ordering::Acquire) > 0 {
            // A notification that comes before this wait begins is kept for it.
            self.0.emptied.notified().await;
        }
    }

    /// Takes a permit, if there is one.
    pub(super) fn try_acquire(&self) -> Result<SocketPermit, Exhausted> {
        let shared = &self.0;
        let SocketSplit { sockets_max, requests_max, .. } = shared.split;
        let streams = shared.hub.connections_admitted() as usize;
        let fits = |held| held < requests_max && held + streams < sockets_max;
        let update = |held| fits(held).then_some(held + 1);
        match shared.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, update) {
            Ok(_) => Ok(self.permit()),
            Err(held) if held + streams >= sockets_max => Err(Exhausted::Sockets),
            Err(_) => Err(Exhausted::Requests),
        }
    }

    /// As [`try_acquire`](Self::try_acquire), but waits up to [`GRACE`] for a permit: when many
    /// connections come at once, most of them release theirs soon.
    pub(super) async fn acquire_within_grace(&self) -> Result<SocketPermit, Exhausted> {
        let first = self.try_acquire();
        if first.is_ok() {
            return first;
        }
        let waited = timeout(GRACE, async {
            loop {
                let freed = self.0.freed.notified();
                if let Ok(permit) = self.try_acquire() {
                    return permit;
                }
                // A stream that ends frees a socket too, but notifies no waiter; hence the timeout.
                let _ = timeout(RETRY_INTERVAL, freed).await;
            }
        });
        waited.await.or(first)
    }

    /// A permit for the socket of an answered poll, which is open already, even above the limit.
    pub(super) fn acquire_unchecked(&self) -> SocketPermit {
        self.0.held.fetch_add(1, Ordering::AcqRel);
        self.permit()
    }

    fn permit(&self) -> SocketPermit {
        self.metrics().http_connections.inc();
        SocketPermit(Arc::clone(&self.0))
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        self.0.hub.counters()
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        let held = self.0.held.fetch_sub(1, Ordering::AcqRel);
        self.0.hub.counters().http_connections.dec();
        self.0.freed.notify_one();
        if held == 1 {
            self.0.emptied.notify_one();
        }
    }
}

/// Whether an error says that the process (`EMFILE`) or the system (`ENFILE`) is at its file limit.
pub(super) fn is_no_file(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(
        error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    );
    #[cfg(not(unix))]
    false
}

/// Descriptors reserved for files that the process opens for a moment.
const FILES_RESERVED: usize = 16;
/// Descriptors of each shard: its poller, the poller's wake-up and others.
const FILES_PER_SHARD: usize = 8;
/// Open files assumed if the system does not report them.
const FILES_ASSUMED: usize = 64;
/// One socket in this many is reserved for requests, and at least `REQUESTS_MIN`.
const RESERVED_FRACTION: usize = 16;
const REQUESTS_MIN: usize = 8;
/// How long a new connection waits for a permit before it is rejected.
const GRACE: Duration = Duration::from_millis(500);
/// Pause between two attempts to take a permit.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_permits_to_requests_and_both_stay_below_the_file_limit() {
        for files_max in [0, 10, 64, 200, 1_024, 20_000, 1 << 20] {
            for files_in_use in [0, 20, 300] {
                let d = SocketSplit::of(Some(files_max), files_in_use, 10_000, 1_000_000);
                let free = (files_max as usize).saturating_sub(files_in_use + FILES_RESERVED);
                assert!(d.sockets_max <= free.max(2), "{files_max} {d:?}");
                assert!(d.requests_max >= 1 && d.streams_max >= 1, "{files_max} {d:?}");
                assert!(d.streams_max < d.sockets_max, "{files_max} {d:?}");
                if free > 2 * REQUESTS_MIN {
                    assert!(d.sockets_max - d.streams_max >= REQUESTS_MIN, "{files_max} {d:?}");
                }
            }
        }
    }

    #[test]
    fn what_was_asked_for_is_a_bound_too() {
        let d = SocketSplit::of(None, 20, 7, 9);
        assert_eq!((d.requests_max, d.streams_max), (7, 9));
        let d = SocketSplit::of(Some(20_000), 60, 10_000, 18_000);
        assert_eq!((d.requests_max, d.streams_max), (10_000, 18_000), "{d:?}");
    }

    #[tokio::test]
    async fn a_freed_permit_goes_to_the_next_connection() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let budget = SocketBudget::new(hub, SocketSplit::of(None, 0, 2, 10));
        let first = budget.try_acquire().expect("a permit");
        let second = budget.try_acquire().expect("a permit");
        assert_eq!(budget.try_acquire().err(), Some(Exhausted::Requests));
        let kept = budget.acquire_unchecked();
        assert_eq!(budget.0.held.load(Ordering::Acquire), 3, "a socket that is there is kept");
        drop((first, kept));
        let third = budget.acquire_within_grace().await.expect("a permit");
        assert_eq!(budget.acquire_within_grace().await.err(), Some(Exhausted::Requests));
        let later = tokio::spawn({
            let budget = budget.clone();
            async move { budget.acquire_within_grace().await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(second);
        assert!(later.await.expect("it ends"), "it waits for a moment");
        let emptied = tokio::spawn({
            let budget = budget.clone();
            async move { budget.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!emptied.is_finished(), "one is left");
        drop(third);
        timeout(Duration::from_secs(20), emptied).await.expect("in time").expect("it ends");
        assert_eq!(budget.metrics().http_connections.get(), 0);
    }

    #[tokio::test]
    async fn streams_count_too() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let split = SocketSplit { sockets_max: 2, requests_max: 2, streams_max: 2 };
        let budget = SocketBudget::new(hub.clone(), split);
        let request = crate::hub::StreamRequest::channel("a").expect("a channel");
        let stream = hub.admit_stream(request).expect("room");
        let permit = budget.try_acquire().expect("a permit");
        assert_eq!(budget.try_acquire().err(), Some(Exhausted::Sockets));
        drop(stream);
        assert!(budget.try_acquire().is_ok());
        drop(permit);
    }

    #[test]
    fn what_shards_open_for_themselves_counts() {
        assert!(files_in_use(1_000) > 1_000 * FILES_PER_SHARD);
    }
}
