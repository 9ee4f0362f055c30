//! The supervisor of the shards.
//!
//! Parent: the root. Children: one shard per core, permanent. Mailbox: control only. A shard that
//! fails is started anew on a thread of its own; one that keeps failing takes the supervisor with
//! it, and the root decides.

use std::sync::Arc;

use ractor::{
    Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent,
    thread_local::{ThreadLocalActor, ThreadLocalActorSpawner},
};
use tokio::sync::watch;

use super::{
    messages::ShardsMsg,
    shard::{Front, Shard, ShardArguments},
    shard_context::ShardContext,
};
use crate::core::{RestartPolicy, Restarts};

/// The actor.
pub(super) struct Shards;

/// What it is started with.
#[derive(Clone)]
pub(crate) struct ShardsArguments {
    pub(crate) context: Arc<ShardContext>,
    /// Serves clients on every shard, once there is one.
    pub(crate) front: watch::Receiver<Option<Arc<dyn Front>>>,
}

/// Its state.
pub(super) struct ShardsState {
    arguments: ShardsArguments,
    children: Vec<ActorId>,
    restarts: Restarts,
}

impl Actor for Shards {
    type Msg = ShardsMsg;
    type State = ShardsState;
    type Arguments = ShardsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardsMsg>,
        arguments: ShardsArguments,
    ) -> Result<ShardsState, ActorProcessingErr> {
        let mut state =
            ShardsState { arguments, children: Vec::new(), restarts: Restarts::new(RESTARTS) };
        for index in 0..state.arguments.context.shards.count() {
            let id = state.start(&myself, index).await?;
            state.children.push(id);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<ShardsMsg>,
        msg: ShardsMsg,
        state: &mut ShardsState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ShardsMsg::Kill(index) => {
                if let Some(shard) = state.arguments.context.shards.find(index) {
                    shard.kill();
                }
            }
            ShardsMsg::Panic => panic!("planted fault in the shards supervisor"),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ShardsMsg>,
        event: SupervisionEvent,
        state: &mut ShardsState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, error) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, error.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor, reason.unwrap_or_default())
            }
            _ => return Ok(()),
        };
        let Some(index) = state.children.iter().position(|id| *id == actor.get_id()) else {
            return Ok(());
        };
        let context = &state.arguments.context;
        context.shards.set(index, None);
        tracing::error!(shard = index, error, "a shard failed; its connections will resume");
        context.metrics.restarts.count("shard");
        if !state.restarts.allow(context.clock.now_ms()) {
            return Err("shards fail too often".into());
        }
        state.children[index] = state.start(&myself, index).await?;
        Ok(())
    }
}

impl ShardsState {
    async fn start(
        &self,
        myself: &ActorRef<ShardsMsg>,
        index: usize,
    ) -> Result<ActorId, ActorProcessingErr> {
        let ShardsArguments { context, front } = self.arguments.clone();
        let shards = Arc::clone(&context.shards);
        let arguments = ShardArguments { context, index, front };
        let spawner = ThreadLocalActorSpawner::new();
        let (shard, _) = Shard::spawn_linked(None, arguments, myself.get_cell(), spawner).await?;
        let id = shard.get_id();
        shards.set(index, Some(shard));
        Ok(id)
    }
}

const RESTARTS: RestartPolicy = RestartPolicy { restarts_max: 5, window_ms: 10_000 };
