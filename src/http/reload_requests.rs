//! Requests to read the settings again, for the task of the process that does it.

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

/// The way to the task that reads the settings.
#[derive(Debug, Clone)]
pub(crate) struct ReloadRequests(mpsc::Sender<ReloadAnswer>);

/// Where the task answers one request.
pub(crate) type ReloadAnswer = oneshot::Sender<Result<Reloaded, ReloadRefusal>>;

/// The settings were read again.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// Keys whose new values are in force.
    pub(crate) changed: Vec<&'static str>,
    /// Keys whose new values need a restart.
    pub(crate) needs_restart: Vec<&'static str>,
}

/// Nothing has changed.
#[derive(Debug)]
pub(crate) enum ReloadRefusal {
    /// The settings, or files that they name, cannot be used: everything that is wrong, a text each.
    Invalid(Vec<String>),
    /// The hub is ending.
    Draining,
    /// [`WAITING_MAX`] requests wait already.
    TooMany,
}

impl ReloadRequests {
    /// A way to a task, and the task's end of it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ReloadAnswer>) {
        let (requests, received) = mpsc::channel(WAITING_MAX);
        (Self(requests), received)
    }

    /// Has the settings read again, after reloads that were asked for before. If it is cancelled, the
    /// reload takes place all the same.
    pub(super) async fn reload(&self) -> Result<Reloaded, ReloadRefusal> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(answer).map_err(|error| match error {
            TrySendError::Full(_) => ReloadRefusal::TooMany,
            TrySendError::Closed(_) => ReloadRefusal::Draining,
        })?;
        answered.await.unwrap_or(Err(ReloadRefusal::Draining))
    }
}

/// Reloads that wait for the one under way. A file on a disk that does not answer holds them up.
const WAITING_MAX: usize = 8;
