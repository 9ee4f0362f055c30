//! A search for last events that waits: for its part of the memory of all searches, or for the
//! threads that read the log on disk.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::timeout;

use super::pending_read::{PendingRead, ReadFailure};
use crate::{
    backend::{FoundEvents, LastSearch, SearchBytes, SearchStep},
    telemetry::DiskMetrics,
};

/// A search that waits. Dropping it cancels the search.
#[derive(Debug)]
pub(crate) struct PendingSearch(Waits);

#[derive(Debug)]
enum Waits {
    /// The search waits for memory. It is taken out when memory is granted.
    ForMemory(Option<Box<LastSearch>>, MemoryWait),
    /// The search waits for the threads that read the disk.
    ForDisk(PendingRead<FoundEvents>),
}

/// The wait for memory, which is counted.
struct MemoryWait {
    memory: Pin<Box<dyn Future<Output = Result<SearchBytes, ReadFailure>> + Send>>,
    waiters: Arc<MemoryWaiters>,
}

/// How many searches wait for memory.
#[derive(Debug)]
pub(super) struct MemoryWaiters {
    count: AtomicUsize,
    metrics: Arc<DiskMetrics>,
}

impl MemoryWaiters {
    pub(super) fn new(metrics: &Arc<DiskMetrics>) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), metrics: Arc::clone(metrics) })
    }

    /// How many searches wait.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl PendingSearch {
    /// A search that waits for `memory`, for a bounded time.
    pub(super) fn for_memory(
        search: LastSearch,
        memory: impl Future<Output = Option<SearchBytes>> + Send + 'static,
        waiters: &Arc<MemoryWaiters>,
    ) -> Self {
        waiters.count.fetch_add(1, Ordering::Relaxed);
        waiters.metrics.search_waits();
        let metrics = Arc::clone(&waiters.metrics);
        let memory = async move {
            let memory = in_time(memory).await;
            if matches!(memory, Err(ReadFailure::Busy)) {
                metrics.read_refused();
            }
            memory
        };
        let wait = MemoryWait { memory: Box::pin(memory), waiters: Arc::clone(waiters) };
        Self(Waits::ForMemory(Some(Box::new(search)), wait))
    }
}

impl From<PendingRead<FoundEvents>> for PendingSearch {
    fn from(read: PendingRead<FoundEvents>) -> Self {
        Self(Waits::ForDisk(read))
    }
}

impl Future for PendingSearch {
    type Output = Result<SearchStep, ReadFailure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Waits::ForDisk(read) => {
                Pin::new(read).poll(context).map(|found| found.map(SearchStep::Found))
            }
            Waits::ForMemory(search, wait) => {
                let bytes = match ready!(wait.memory.as_mut().poll(context)) {
                    Ok(bytes) => bytes,
                    Err(failure) => return Poll::Ready(Err(failure)),
                };
                let mut search =
                    search.take().expect("it is polled until it is ready, and no further");
                search.give_memory(bytes);
                Poll::Ready(Ok(SearchStep::Begins(*search)))
            }
        }
    }
}

impl Drop for MemoryWait {
    fn drop(&mut self) {
        let waiters = &self.waiters;
        waiters.count.fetch_sub(1, Ordering::Relaxed);
        waiters.metrics.search_waits_no_more();
    }
}

impl std::fmt::Debug for MemoryWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryWait").finish_non_exhaustive()
    }
}

/// Ends a wait for memory that takes too long: clients that read slowly may keep all of the memory.
async fn in_time<T>(memory: impl Future<Output = Option<T>>) -> Result<T, ReadFailure> {
    match timeout(MEMORY_WAIT_MAX, memory).await {
        Ok(memory) => memory.ok_or(ReadFailure::Closed),
        Err(_) => Err(ReadFailure::Busy),
    }
}

/// How long a search waits for memory. Its client is then asked to come back.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_search_waits_for_memory_for_a_while_alone() {
        assert_eq!(in_time(ready(Some(1))).await, Ok(1));
        assert_eq!(in_time(ready(None::<u32>)).await, Err(ReadFailure::Closed));
        assert_eq!(in_time(pending::<Option<u32>>()).await, Err(ReadFailure::Busy));
    }
}
