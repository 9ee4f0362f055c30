//! The memory that all searches for last events share. What a search has found counts until it is sent,
//! or until a search that waits takes it away from readers that are slow.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::replay::Next;

/// The memory that searches share. A search for which too little is left waits; waiting searches
/// get it in the order of their arrival.
#[derive(Debug)]
pub struct SearchMemory {
    free: Arc<Semaphore>,
    bytes_max: u64,
    results: Arc<Results>,
}

/// The part of one search. Dropping it frees it.
#[derive(Debug)]
pub struct SearchBytes {
    permit: OwnedSemaphorePermit,
    results: Arc<Results>,
}

/// What searches have found and readers have begun to read, the oldest first, with when they began.
#[derive(Debug, Default)]
struct Results(Mutex<Vec<(Instant, Weak<FoundList>)>>);

/// What a search has found, in its part of the memory; nothing once that was revoked.
#[derive(Debug)]
pub(super) struct FoundList(Mutex<Option<Found>>);

#[derive(Debug)]
struct Found {
    events: Arc<[Next]>,
    bytes: Option<SearchBytes>,
    is_revocable: bool,
}

impl SearchMemory {
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS as u64);
        let free = Arc::new(Semaphore::new(bytes_max as usize));
        Self { free, bytes_max, results: Arc::default() }
    }

    /// Bytes that are in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.bytes_max.saturating_sub(self.free.available_permits() as u64)
    }

    /// A part, if there is room and no other search waits.
    pub(super) fn try_take(&self, bytes: u32) -> Option<SearchBytes> {
        let bytes = self.at_most_all(bytes);
        let permit = Arc::clone(&self.free).try_acquire_many_owned(bytes).ok()?;
        Some(SearchBytes { permit, results: Arc::clone(&self.results) })
    }

    /// A part, when there is room; `None` once the memory is [closed](Self::close). While it waits, readers
    /// that take longer than [`READ_TIME`] for what a search has found lose it, the oldest first. Dropping
    /// the future ends the wait.
    pub fn take(&self, bytes: u32) -> impl Future<Output = Option<SearchBytes>> + Send + use<> {
        let (free, bytes) = (Arc::clone(&self.free), self.at_most_all(bytes));
        let results = Arc::clone(&self.results);
        async move {
            let mut permit = pin!(free.acquire_many_owned(bytes));
            let mut missing = bytes as usize;
            loop {
                match timeout(READ_TIME, &mut permit).await {
                    Ok(permit) => return Some(SearchBytes { permit: permit.ok()?, results }),
                    Err(_) => missing = missing.saturating_sub(results.revoke(missing)),
                }
            }
        }
    }

    /// Gives no more parts, and ends the waits.
    pub fn close(&self) {
        self.free.close();
    }

    /// A search that needs more than all of it gets all of it.
    fn at_most_all(&self, bytes: u32) -> u32 {
        u32::try_from(self.bytes_max).map_or(bytes, |all| bytes.min(all))
    }
}

impl SearchBytes {
    /// Frees all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let more = self.permit.num_permits().saturating_sub(bytes);
        drop(self.permit.split(more));
    }
}

impl Results {
    fn add(&self, list: &Arc<FoundList>) {
        let mut lists = self.0.lock();
        if lists.len() == lists.capacity() {
            lists.retain(|(_, list)| list.strong_count() > 0);
        }
        lists.push((Instant::now(), Arc::downgrade(list)));
    }

    /// Frees `bytes`, as far as readers have had their time. Gives how many.
    fn revoke(&self, bytes: usize) -> usize {
        let mut lists = self.0.lock();
        let (mut freed, mut revoked) = (0, 0);
        for (since, list) in &*lists {
            if freed >= bytes || since.elapsed() < READ_TIME {
                break;
            }
            revoked += 1;
            freed += list.upgrade().map_or(0, |list| list.revoke());
        }
        lists.drain(..revoked);
        freed
    }
}

impl FoundList {
    pub(super) fn new(events: Arc<[Next]>, bytes: Option<SearchBytes>) -> Self {
        Self(Mutex::new(Some(Found { events, bytes, is_revocable: false })))
    }

    /// The events, if they were not revoked.
    pub(super) fn events(&self) -> Option<Arc<[Next]>> {
        self.0.lock().as_ref().map(|found| Arc::clone(&found.events))
    }

    /// A reader has begun to read them.
    pub(super) fn begin(self: &Arc<Self>) {
        if let Some(found) = &mut *self.0.lock()
            && let Some(bytes) = found.bytes.as_ref().filter(|_| !found.is_revocable)
        {
            bytes.results.add(self);
            found.is_revocable = true;
        }
    }

    /// Frees all but the last events, if that leaves less than half of them. `bytes` is what a number of
    /// events takes.
    pub(super) fn keep_from(
        &self,
        passed: impl FnOnce(&[Next]) -> usize,
        bytes: fn(usize) -> usize,
    ) {
        let mut found = self.0.lock();
        let Some(Found { events, bytes: Some(part), .. }) = &mut *found else { return };
        let passed = passed(events);
        if 2 * passed > events.len() && Arc::strong_count(events) == 1 {
            *events = events[passed..].into();
            part.shrink(bytes(events.len()));
        }
    }

    /// Gives the bytes that are freed.
    fn revoke(&self) -> usize {
        let found = self.0.lock().take();
        found.and_then(|found| found.bytes).map_or(0, |bytes| bytes.permit.num_permits())
    }
}

/// How long readers of what a search has found have the memory for themselves when another search waits.
const READ_TIME: Duration = Duration::from_secs(3);

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

    #[tokio::test]
    async fn parts_are_given_in_turn_and_one_that_goes_makes_room() {
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
