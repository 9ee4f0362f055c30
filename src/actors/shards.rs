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

use super::{
    hub_state::HubState,
    shard::{Front, Shard, ShardMsg},
};
use crate::{
    core::{RestartPolicy, Restarts},
    telemetry::Metrics,
};

/// The actor.
pub(crate) struct Shards;

/// Its messages.
pub(crate) enum ShardsMsg {
    /// Serve clients, on every shard there is and will be.
    Serve(Arc<dyn Front>),
    /// Kill a shard.
    Kill(usize),
    /// A planted fault.
    Panic,
}

/// Its state.
pub(crate) struct ShardsState {
    shared: Arc<HubState>,
    front: Option<Arc<dyn Front>>,
    children: Vec<ActorId>,
    restarts: Restarts,
}

impl Actor for Shards {
    type Msg = ShardsMsg;
    type State = ShardsState;
    type Arguments = (Arc<HubState>, Option<Arc<dyn Front>>);

    async fn pre_start(
        &self,
        myself: ActorRef<ShardsMsg>,
        (shared, front): Self::Arguments,
    ) -> Result<ShardsState, ActorProcessingErr> {
        let mut state =
            ShardsState { shared, front, children: Vec::new(), restarts: Restarts::new(RESTARTS) };
        for index in 0..state.shared.shards() {
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
            ShardsMsg::Serve(front) => {
                for shard in state.shared.refs.lock().shards.iter().flatten() {
                    shard.cast(ShardMsg::Serve(Arc::clone(&front)))?;
                }
                state.front = Some(front);
            }
            ShardsMsg::Kill(index) => {
                if let Some(Some(shard)) = state.shared.refs.lock().shards.get(index) {
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
        state.shared.refs.lock().shards[index] = None;
        tracing::error!(shard = index, error, "a shard failed; its connections will resume");
        Metrics::count(&state.shared.metrics.restarts, "shard");
        if !state.restarts.allow(state.shared.clock.now_ms()) {
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
        let arguments = (Arc::clone(&self.shared), index);
        let spawner = ThreadLocalActorSpawner::new();
        let (shard, _) = Shard::spawn_linked(None, arguments, myself.get_cell(), spawner).await?;
        if let Some(front) = &self.front {
            shard.cast(ShardMsg::Serve(Arc::clone(front)))?;
        }
        let id = shard.get_id();
        self.shared.refs.lock().shards[index] = Some(shard);
        Ok(id)
    }
}

const RESTARTS: RestartPolicy = RestartPolicy { restarts_max: 5, window_ms: 10_000 };
