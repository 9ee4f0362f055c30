//! Searches for last events that wait for a thread or are under way. Equal searches are made once,
//! and all their readers get the result.

use std::{collections::HashMap, mem, sync::Arc};

use parking_lot::Mutex;

use super::pending_read::{self, ReadFailure};
use crate::{
    backend::{FoundEvents, LastSearch, SearchKey},
    model::Seq,
};

/// The searches that other readers may join, by what they look for.
#[derive(Debug, Default)]
pub(super) struct SharedSearches(HashMap<Arc<SearchKey>, Arc<SharedSearch>>);

/// One search, and the readers that wait for it.
#[derive(Debug)]
pub(super) struct SharedSearch {
    key: Arc<SearchKey>,
    /// The head of the log when it began.
    head: Seq,
    replies: Mutex<Vec<Reply>>,
}

type Reply = pending_read::Reply<FoundEvents>;

impl SharedSearches {
    /// An equal search that `search` may join. The joiner gets the last events as of the head at
    /// which that search began, and all events after it.
    pub(super) fn find(&self, search: &LastSearch) -> Option<&Arc<SharedSearch>> {
        let found = self.0.get(search.key());
        found.filter(|shared| search.head().0.saturating_sub(shared.head.0) <= LAG_EVENTS_MAX)
    }

    /// Adds a search. An equal, older search cannot be joined from now on.
    pub(super) fn add(&mut self, search: &LastSearch, reply: Reply) -> Arc<SharedSearch> {
        let (key, head) = (Arc::clone(search.key()), search.head());
        let shared = SharedSearch { key, head, replies: Mutex::new(vec![reply]) };
        let shared = Arc::new(shared);
        self.0.insert(Arc::clone(&shared.key), Arc::clone(&shared));
        shared
    }

    /// Lets no reader join the search any more.
    pub(super) fn remove(&mut self, shared: &Arc<SharedSearch>) {
        if self.0.get(&shared.key).is_some_and(|found| Arc::ptr_eq(found, shared)) {
            self.0.remove(&shared.key);
        }
    }

    /// Removes the searches for which no reader waits.
    pub(super) fn purge(&mut self) {
        self.0.retain(|_, shared| !shared.is_cancelled());
    }

    /// Removes all searches.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl SharedSearch {
    /// Adds a reader that waits for the search.
    pub(super) fn join(&self, reply: Reply) {
        self.replies.lock().push(reply);
    }

    /// How many readers wait for the search.
    pub(super) fn waiting(&self) -> usize {
        self.replies.lock().len()
    }

    /// Whether all readers that waited have gone.
    pub(super) fn is_cancelled(&self) -> bool {
        self.replies.lock().iter().all(Reply::is_closed)
    }

    /// Sends the result to all readers.
    pub(super) fn answer(&self, result: &Result<FoundEvents, ReadFailure>) {
        for reply in mem::take(&mut *self.replies.lock()) {
            // A reader that has gone drops it.
            let _ = reply.send(result.clone());
        }
    }
}

/// Events of the hub since a search began, up to which other readers join it: these events of their
/// channels are read in addition.
const LAG_EVENTS_MAX: u64 = 10_000;
