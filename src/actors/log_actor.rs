//! The log's actor: commits what publishers do not commit themselves, and fails when a commit
//! panicked on another thread.
//!
//! Parent: the root. Children: none. Mailbox: `Commit` is coalesced, so at most one waits;
//! submissions are in a queue that the publish permits bound. A crash, or a panic of a commit on
//! any thread, ends the process: the order of events may be half-made.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{log::Log, messages::LogMsg};

/// The actor.
pub(super) struct LogActor;

impl Actor for LogActor {
    type Msg = LogMsg;
    type State = Arc<Log>;
    type Arguments = Arc<Log>;

    async fn pre_start(
        &self,
        myself: ActorRef<LogMsg>,
        log: Arc<Log>,
    ) -> Result<Arc<Log>, ActorProcessingErr> {
        log.set_actor(myself);
        Ok(log)
    }

    async fn handle(
        &self,
        myself: ActorRef<LogMsg>,
        msg: LogMsg,
        log: &mut Arc<Log>,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            LogMsg::Commit => {
                if log.commit_all() {
                    myself.cast(LogMsg::Commit)?;
                }
                Ok(())
            }
            LogMsg::Failed(why) => Err(why.into()),
            LogMsg::Panic => panic!("planted fault in the log"),
        }
    }
}
