//! Searches for last events that wait for a thread or are under way: equal ones are made once, and
//! all that ask get what was found.

use std::{collections::HashMap, mem, sync::Arc};

use parking_lot::Mutex;

use super::pending_read::{self, ReadFailure};
use crate::{
    backend::{FoundEvents, LastSearch, SearchKey},
    model::Seq,
};

/// The searches that others may join, by what they look for.
#[derive(Debug, Default)]
pub(super) struct SharedSearches(HashMap<Arc<SearchKey>, Arc<SharedSearch>>);

/// One search, and those that wait for it.
#[derive(Debug)]
pub(super) struct SharedSearch {
    key: Arc<SearchKey>,
    /// The head of the log when it began.
    head: Seq,
    replies: Mutex<Vec<Reply>>,
}

type Reply = pending_read::Reply<FoundEvents>;

impl SharedSearches {
    /// An equal search that `search` may join. The joiner gets the last events as they were when
    /// that began, and what was published since.
    pub(super) fn find(&self, search: &LastSearch) -> Option<&Arc<SharedSearch>> {
        let found = self.0.get(search.key());
        found.filter(|shared| search.head().0.saturating_sub(shared.head.0) <= LAG_EVENTS_MAX)
    }

    /// Adds a search. One that is equal and older takes no others from now on.
    pub(super) fn add(&mut self, search: &LastSearch, reply: Reply) -> Arc<SharedSearch> {
        let (key, head) = (Arc::clone(search.key()), search.head());
        let shared = SharedSearch { key, head, replies: Mutex::new(vec![reply]) };
        let shared = Arc::new(shared);
        self.0.insert(Arc::clone(&shared.key), Arc::clone(&shared));
        shared
    }

    /// Lets nothing join it any more.
    pub(super) fn remove(&mut self, shared: &Arc<SharedSearch>) {
        if self.0.get(&shared.key).is_some_and(|found| Arc::ptr_eq(found, shared)) {
            self.0.remove(&shared.key);
        }
    }

    /// Removes those for which nothing waits.
    pub(super) fn purge(&mut self) {
        self.0.retain(|_, shared| !shared.is_cancelled());
    }

    /// Removes all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl SharedSearch {
    /// Waits for it too.
    pub(super) fn join(&self, reply: Reply) {
        self.replies.lock().push(reply);
    }

    /// How many wait for it.
    pub(super) fn waiting(&self) -> usize {
        self.replies.lock().len()
    }

    /// Whether all that waited have gone.
    pub(super) fn is_cancelled(&self) -> bool {
        self.replies.lock().iter().all(Reply::is_closed)
    }

    /// Gives all that wait what was found.
    pub(super) fn answer(&self, result: &Result<FoundEvents, ReadFailure>) {
        for reply in mem::take(&mut *self.replies.lock()) {
            // One that has gone drops it.
            let _ = reply.send(result.clone());
        }
    }
}

/// Events of the hub since a search began up to which others join it: they get those of their
/// channels in addition.
const LAG_EVENTS_MAX: u64 = 10_000;
