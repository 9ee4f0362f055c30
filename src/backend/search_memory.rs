//! The memory that all searches for last events share. Found events count until they are sent.

use std::{future::Future, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The memory that searches share. If too little is left, a search waits; waiting searches get
/// memory in the order of their arrival.
#[derive(Debug)]
pub struct SearchMemory {
    free: Arc<Semaphore>,
    bytes_max: u64,
}

/// The part of one search. Dropping it frees it.
#[derive(Debug)]
pub struct SearchBytes(OwnedSemaphorePermit);

impl SearchMemory {
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS as u64);
        Self { free: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// Bytes that are in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.bytes_max.saturating_sub(self.free.available_permits() as u64)
    }

    /// A part, if there is room and no other search waits.
    pub(super) fn try_take(&self, bytes: u32) -> Option<SearchBytes> {
        let bytes = self.at_most_all(bytes);
        Arc::clone(&self.free).try_acquire_many_owned(bytes).ok().map(SearchBytes)
    }

    /// A part, when there is room; `None` once the memory is [closed](Self::close). Dropping the
    /// future ends the wait.
    pub fn take(&self, bytes: u32) -> impl Future<Output = Option<SearchBytes>> + Send + use<> {
        let (free, bytes) = (Arc::clone(&self.free), self.at_most_all(bytes));
        async move { free.acquire_many_owned(bytes).await.ok().map(SearchBytes) }
    }

    /// Ends the waits, and gives out no more memory.
    pub fn close(&self) {
        self.free.close();
    }

    /// The bytes, but at most all memory: a search that needs more gets all of it.
    fn at_most_all(&self, bytes: u32) -> u32 {
        u32::try_from(self.bytes_max).map_or(bytes, |all| bytes.min(all))
    }
}

impl SearchBytes {
    /// Frees all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let more = self.0.num_permits().saturating_sub(bytes);
        drop(self.0.split(more));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Option<SearchBytes>> + Send>>;

    fn poll(waiting: &mut Waiting) -> Poll<Option<SearchBytes>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn parts_are_given_in_turn_and_one_that_goes_makes_room() {
        let memory = SearchMemory::new(100);
        let mut first = memory.try_take(60).expect("room");
        assert!(memory.try_take(60).is_none());
        let mut second: Waiting = Box::pin(memory.take(60));
        let mut third: Waiting = Box::pin(memory.take(10));
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending(), "in turn");
        assert!(memory.try_take(1).is_none(), "nothing overtakes those that wait");
        first.shrink(30);
        let Poll::Ready(second) = poll(&mut second) else { panic!("there is room") };
        assert!(poll(&mut third).is_ready());
        assert_eq!(memory.used(), 90, "the third is gone");
        drop((first, second));
        let all = memory.try_take(1_000).expect("more than there is");
        assert_eq!(memory.used(), 100);
        let mut gone: Waiting = Box::pin(memory.take(50));
        let mut next: Waiting = Box::pin(memory.take(20));
        assert!(poll(&mut gone).is_pending() && poll(&mut next).is_pending());
        drop((gone, all));
        let next = poll(&mut next);
        assert!(matches!(next, Poll::Ready(Some(_))), "it waits for nothing that is gone");
        let mut last: Waiting = Box::pin(memory.take(100));
        assert!(poll(&mut last).is_pending());
        memory.close();
        assert!(matches!(poll(&mut last), Poll::Ready(None)));
        let mut late: Waiting = Box::pin(memory.take(1));
        assert!(matches!(poll(&mut late), Poll::Ready(None)));
    }
}
