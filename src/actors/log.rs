//! The log's actor: commits what publishers do not commit themselves, and fails for the log.
//!
//! Parent: the root. Children: none. Mailbox: `Commit` is coalesced, so at most one waits; what
//! is to be committed lies in a queue that the publish permits bound. A crash, or a panic of a
//! commit on any thread, ends the process: an order that may have been left half-made cannot be
//! trusted.

use std::{sync::Arc, sync::atomic::Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{committer::CommitBudget, hub_state::HubState};

/// The actor.
pub(crate) struct Log;

/// Its messages.
#[derive(Debug)]
pub(crate) enum LogMsg {
    /// There are submissions.
    Commit,
    /// A commit on a publisher's thread has panicked.
    Broken,
    /// A planted fault.
    Panic,
}

impl Actor for Log {
    type Msg = LogMsg;
    type State = Arc<HubState>;
    type Arguments = Arc<HubState>;

    async fn pre_start(
        &self,
        _: ActorRef<LogMsg>,
        shared: Arc<HubState>,
    ) -> Result<Arc<HubState>, ActorProcessingErr> {
        Ok(shared)
    }

    async fn handle(
        &self,
        myself: ActorRef<LogMsg>,
        msg: LogMsg,
        shared: &mut Arc<HubState>,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            LogMsg::Commit => {
                // A swap, so that what was enqueued before the last wake-up is seen below.
                shared.log_awake.swap(false, Ordering::AcqRel);
                shared.committer.lock().commit(shared, CommitBudget::ALL);
                if !shared.submissions.is_empty() && !shared.log_awake.swap(true, Ordering::AcqRel)
                {
                    myself.cast(LogMsg::Commit)?;
                }
                Ok(())
            }
            LogMsg::Broken => Err("a commit panicked".into()),
            LogMsg::Panic => panic!("planted fault in the log"),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<LogMsg>,
        _: SupervisionEvent,
        _: &mut Arc<HubState>,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
