//! Whether a hub takes requests, drains, or has failed.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The state of a hub as a whole.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    draining: AtomicBool,
    /// Why the hub has failed, once it has.
    failure: watch::Sender<Option<String>>,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self { draining: AtomicBool::new(false), failure: watch::Sender::new(None) }
    }

    /// No subscription is admitted from now on.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the hub drains, or is shut down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The hub has failed, and cannot go on.
    pub(super) fn fail(&self, why: String) {
        self.failure.send_replace(Some(why));
    }

    /// The root of the actors has ended. That is a failure unless it was meant.
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

    /// Waits for a failure; says why.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let why = failure.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}
