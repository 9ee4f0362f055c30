//! Requests to reload the settings, for the task of the process that performs reloads.

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

/// Sends requests to the task that performs reloads.
#[derive(Debug, Clone)]
pub(crate) struct ReloadRequests(mpsc::Sender<ReloadAnswer>);

/// The sender by which the task answers one request.
pub(crate) type ReloadAnswer = oneshot::Sender<Result<Reloaded, ReloadRefusal>>;

/// The result of a reload that was applied.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// Keys with a new value that is in force.
    pub(crate) changed: Vec<&'static str>,
    /// Keys with a new value that needs a restart.
    pub(crate) needs_restart: Vec<&'static str>,
}

/// Why a reload was refused. Nothing has changed then.
#[derive(Debug)]
pub(crate) enum ReloadRefusal {
    /// The settings, or files that they name, have these errors.
    Invalid(Vec<String>),
    /// The hub is draining.
    Draining,
    /// [`WAITING_MAX`] requests wait already.
    TooMany,
}

impl ReloadRequests {
    /// A sender of requests, and the receiver for the task.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ReloadAnswer>) {
        let (requests, received) = mpsc::channel(WAITING_MAX);
        (Self(requests), received)
    }

    /// Requests a reload and waits for its result. Earlier requests come first. Cancelling the wait
    /// does not cancel the reload.
    pub(super) async fn reload(&self) -> Result<Reloaded, ReloadRefusal> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(answer).map_err(|error| match error {
            TrySendError::Full(_) => ReloadRefusal::TooMany,
            TrySendError::Closed(_) => ReloadRefusal::Draining,
        })?;
        answered.await.unwrap_or(Err(ReloadRefusal::Draining))
    }
}

/// Requests that may wait for the reload under way, which takes long if a disk does not answer.
const WAITING_MAX: usize = 8;
