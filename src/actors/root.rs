//! The root of the tree: it starts the log, the channels and the shards, in this order.
//!
//! Parent: none. Children: log (permanent; its failure is the hub's), channels and shards
//! (restarted). Mailbox: control only. Its own failure is the hub's.

use std::sync::{Arc, atomic::AtomicBool};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{
    channels::{Channels, ChannelsMsg},
    hub_state::HubState,
    log::{Log, LogMsg},
    shard::{Front, ShardMsg},
    shards::{Shards, ShardsMsg},
};
use crate::{
    core::{RestartPolicy, Restarts},
    model::ChannelName,
    telemetry::Metrics,
};

/// The actor.
pub(crate) struct Root;

/// Its messages.
pub(crate) enum RootMsg {
    /// Serve clients.
    Serve(Arc<dyn Front>),
    /// Plant a fault.
    Fault(Fault),
}

/// An actor that a test wants to see die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The root panics.
    Root,
    /// The log panics.
    Log,
    /// The supervisor of the channels panics.
    Channels,
    /// A channel's actor panics.
    Channel(ChannelName),
    /// A channel's actor is killed.
    KillChannel(ChannelName),
    /// The supervisor of the shards panics.
    Shards,
    /// A shard panics.
    Shard(usize),
    /// A shard is killed.
    KillShard(usize),
    /// The next step of one connection to the channel panics.
    Connection(ChannelName),
}

/// Its state.
pub(crate) struct RootState {
    shared: Arc<HubState>,
    front: Option<Arc<dyn Front>>,
    log: ActorId,
    channels: ActorRef<ChannelsMsg>,
    shards: ActorRef<ShardsMsg>,
    restarts: Restarts,
}

impl Actor for Root {
    type Msg = RootMsg;
    type State = RootState;
    type Arguments = Arc<HubState>;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMsg>,
        shared: Arc<HubState>,
    ) -> Result<RootState, ActorProcessingErr> {
        let cell = myself.get_cell();
        let (log, _) = Log::spawn_linked(None, Log, Arc::clone(&shared), cell.clone()).await?;
        let log_id = log.get_id();
        shared.refs.lock().log = Some(log);
        let channels = start_channels(&shared, &myself).await?;
        let shards = start_shards(&shared, None, &myself).await?;
        let restarts = Restarts::new(RESTARTS);
        Ok(RootState { shared, front: None, log: log_id, channels, shards, restarts })
    }

    async fn handle(
        &self,
        _: ActorRef<RootMsg>,
        msg: RootMsg,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RootMsg::Serve(front) => {
                state.front = Some(Arc::clone(&front));
                // One that is just being restarted is given the front when it starts.
                let _ = state.shards.cast(ShardsMsg::Serve(front));
            }
            RootMsg::Fault(fault) => {
                if let Err(error) = state.plant(fault) {
                    tracing::warn!(error, "the fault found nobody");
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMsg>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, error) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, error.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor, reason.unwrap_or_default())
            }
            _ => return Ok(()),
        };
        let id = actor.get_id();
        if id == state.log {
            return state.fail(format!("the log failed: {error}"));
        }
        let child = if id == state.channels.get_id() {
            "channels"
        } else if id == state.shards.get_id() {
            "shards"
        } else {
            return Ok(());
        };
        tracing::error!(child, error, "a supervisor failed");
        Metrics::count(&state.shared.metrics.restarts, child);
        if !state.restarts.allow(state.shared.clock.now_ms()) {
            return state.fail(format!("the {child} supervisor fails too often: {error}"));
        }
        let started = if child == "channels" {
            start_channels(&state.shared, &myself).await.map(|new| state.channels = new)
        } else {
            let front = state.front.clone();
            start_shards(&state.shared, front, &myself).await.map(|new| state.shards = new)
        };
        match started {
            Ok(()) => Ok(()),
            Err(error) => state.fail(format!("the {child} supervisor did not start: {error}")),
        }
    }
}

impl RootState {
    /// The hub can go on no longer; whoever runs it is told.
    fn fail(&self, why: String) -> Result<(), ActorProcessingErr> {
        tracing::error!(why, "the hub fails");
        self.shared.stop_log();
        self.shared.fatal.send_replace(Some(why));
        Ok(())
    }

    fn plant(&self, fault: Fault) -> Result<(), ActorProcessingErr> {
        tracing::warn!(?fault, "planting a fault");
        let to_shard = |index: usize, msg: ShardMsg| match self.shared.refs.lock().shards.get(index)
        {
            Some(Some(shard)) => shard.cast(msg),
            _ => Ok(()),
        };
        match fault {
            Fault::Root => panic!("planted fault in the root"),
            Fault::Log => {
                if let Some(log) = &self.shared.refs.lock().log {
                    log.cast(LogMsg::Panic)?;
                }
            }
            Fault::Channels => self.channels.cast(ChannelsMsg::Panic(None))?,
            Fault::Channel(name) => self.channels.cast(ChannelsMsg::Panic(Some(name)))?,
            Fault::KillChannel(name) => self.channels.cast(ChannelsMsg::Kill(name))?,
            Fault::Shards => self.shards.cast(ShardsMsg::Panic)?,
            Fault::Shard(index) => to_shard(index, ShardMsg::Panic)?,
            Fault::KillShard(index) => self.shards.cast(ShardsMsg::Kill(index))?,
            Fault::Connection(name) => {
                let planted = Arc::new(AtomicBool::new(false));
                for index in 0..self.shared.shards() {
                    let msg = ShardMsg::PanicConnection(name.clone(), Arc::clone(&planted));
                    to_shard(index, msg)?;
                }
            }
        }
        Ok(())
    }
}

async fn start_channels(
    shared: &Arc<HubState>,
    root: &ActorRef<RootMsg>,
) -> Result<ActorRef<ChannelsMsg>, ActorProcessingErr> {
    let arguments = Arc::clone(shared);
    let (channels, _) = Channels::spawn_linked(None, Channels, arguments, root.get_cell()).await?;
    shared.refs.lock().channels = Some(channels.clone());
    Ok(channels)
}

async fn start_shards(
    shared: &Arc<HubState>,
    front: Option<Arc<dyn Front>>,
    root: &ActorRef<RootMsg>,
) -> Result<ActorRef<ShardsMsg>, ActorProcessingErr> {
    let arguments = (Arc::clone(shared), front);
    let (shards, _) = Shards::spawn_linked(None, Shards, arguments, root.get_cell()).await?;
    Ok(shards)
}

const RESTARTS: RestartPolicy = RestartPolicy { restarts_max: 5, window_ms: 60_000 };
