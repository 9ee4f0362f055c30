//! Whether a hub accepts requests, drains, or has failed.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The state of a hub as a whole.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    unready: AtomicBool,
    draining: watch::Sender<bool>,
    /// Why the hub has failed, once it has.
    failure: watch::Sender<Option<String>>,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            unready: AtomicBool::new(false),
            draining: watch::Sender::new(false),
            failure: watch::Sender::new(None),
        }
    }

    /// Admits no subscription from now on.
    pub(crate) fn start_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the hub drains, or is shut down.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits for a drain to begin.
    pub(crate) async fn draining(&self) {
        let mut draining = self.draining.subscribe();
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// New clients should go elsewhere from now on, although they are served.
    pub(crate) fn become_unready(&self) {
        self.unready.store(true, Ordering::Release);
    }

    /// Whether new clients should come here.
    pub(crate) fn is_ready(&self) -> bool {
        !self.unready.load(Ordering::Acquire) && !self.is_draining() && !self.has_failed()
    }

    /// Notes that the hub has failed for good.
    pub(crate) fn fail(&self, why: String) {
        self.failure.send_replace(Some(why));
    }

    /// Notes that the root of the actors has ended, which is a failure unless the hub drains.
    pub(crate) fn root_ended(&self) {
        self.failure.send_if_modified(|why| {
            let is_unexpected = why.is_none() && !self.is_draining();
            if is_unexpected {
                *why = Some("the root of the actors ended".to_owned());
            }
            is_unexpected
        });
    }

    /// Whether the hub has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Waits for a failure; returns the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let why = failure.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}
