//! The bridge's actor.
//!
//! Parent: the root. Children: four tasks, which append, follow, expire publishes, and count
//! subscribers over all hubs. Mailbox: control only. A crash costs the append under way, whose
//! publishers do not learn its outcome, and a new connection. The restarted bridge continues after
//! the last shown entry.

use std::{future::Future, sync::Arc};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::AbortHandle;

use super::{
    appending::append_forever, arguments::BridgeArguments, counting::Counting, tailing::Tail,
};
use crate::actors::messages::BridgeMsg;

/// The actor.
pub(in crate::actors) struct Bridge;

/// Its tasks, which end with it.
pub(in crate::actors) struct BridgeState(Vec<AbortHandle>);

impl Drop for BridgeState {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Actor for Bridge {
    type Msg = BridgeMsg;
    type State = BridgeState;
    type Arguments = BridgeArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<BridgeMsg>,
        arguments: BridgeArguments,
    ) -> Result<BridgeState, ActorProcessingErr> {
        let mut state = BridgeState(Vec::new());
        let Some(stage) = arguments.log.shared().map(Arc::clone) else { return Ok(state) };
        let expiring = Arc::clone(&stage);
        let counting =
            Counting::new(Arc::clone(&stage), Arc::clone(arguments.log.store().registry()));
        state.spawn(&myself, "count", counting.count_forever());
        state.spawn(&myself, "follow", Tail::new(arguments, Arc::clone(&stage)).follow_forever());
        state.spawn(&myself, "append", append_forever(stage));
        state.spawn(&myself, "expire", async move {
            loop {
                tokio::time::sleep(EXPIRY_INTERVAL).await;
                expiring.expire();
            }
        });
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<BridgeMsg>,
        msg: BridgeMsg,
        _: &mut BridgeState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            BridgeMsg::TaskEnded(task) => Err(format!("its {task} task ended").into()),
            BridgeMsg::Panic => panic!("planted fault in the bridge"),
        }
    }
}

impl BridgeState {
    /// Spawns a task whose end fails the bridge.
    fn spawn(
        &mut self,
        myself: &ActorRef<BridgeMsg>,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = tokio::spawn(task);
        self.0.push(task.abort_handle());
        let myself = myself.clone();
        tokio::spawn(async move {
            match task.await {
                Err(error) if error.is_cancelled() => {}
                _ => {
                    let _ = myself.cast(BridgeMsg::TaskEnded(name));
                }
            }
        });
    }
}

/// The time between two checks for publishes that have waited too long.
const EXPIRY_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);
