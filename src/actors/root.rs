//! The root of the tree: it starts the log, the channels, the shards, a bridge to a log that hubs
//! share, and the sampler, in this order.
//!
//! Parent: none. Children: log (permanent; its failure is the hub's), channels, shards, bridge and
//! sampler (restarted). Mailbox: control only. Its own failure is the hub's. A sampler that fails
//! too often is started again later: the hub serves its clients without samples.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    bridge::{Bridge, BridgeArguments},
    channels::{Channels, ChannelsArguments},
    lifecycle::Lifecycle,
    log_actor::LogActor,
    messages::{BridgeMsg, ChannelsMsg, Fault, RootMsg, SamplerMsg, ShardMsg, ShardsMsg},
    sampler::{Sampler, SamplerArguments},
    shard::Front,
    shard_context::ShardContext,
    shards::{Shards, ShardsArguments},
};
use crate::core::{RestartPolicy, Restarts};

/// The actor.
struct Root;

/// The actors of a hub.
pub(crate) struct RootHandle {
    root: ActorRef<RootMsg>,
    front: watch::Sender<Option<Arc<dyn Front>>>,
    has_stopped: AtomicBool,
}

impl RootHandle {
    /// Starts the actors. The second part ends with their root.
    pub(crate) async fn start(
        lifecycle: Arc<Lifecycle>,
        channels: ChannelsArguments,
        shards: Arc<ShardContext>,
        bridge: Option<BridgeArguments>,
        sampler: SamplerArguments,
    ) -> Result<(Self, JoinHandle<()>), SpawnErr> {
        let front = watch::Sender::new(None);
        let shards = ShardsArguments { context: shards, front: front.subscribe() };
        let arguments = RootArguments { lifecycle, channels, shards, bridge, sampler };
        let (root, ended) = Root::spawn(None, Root, arguments).await?;
        Ok((Self { root, front, has_stopped: AtomicBool::new(false) }, ended))
    }

    /// Serves clients on every shard there is and will be. Only the first front is used, and none
    /// after the actors are stopped.
    pub(crate) fn serve(&self, front: Arc<dyn Front>) {
        self.front.send_if_modified(|first| {
            let is_used = first.is_none() && !self.has_stopped.load(Ordering::Relaxed);
            if is_used {
                *first = Some(front);
            }
            is_used
        });
    }

    /// Stops the actors, and drops the front: it has a handle to the hub, which has this.
    pub(crate) fn stop(&self) {
        self.front.send_if_modified(|front| {
            self.has_stopped.store(true, Ordering::Relaxed);
            front.take().is_some()
        });
        self.root.stop(None);
    }

    /// Plants a fault.
    pub(crate) fn plant_fault(&self, fault: Fault) {
        // A root that has ended has no faults left.
        let _ = self.root.cast(RootMsg::Fault(fault));
    }
}

/// What it is started with.
struct RootArguments {
    lifecycle: Arc<Lifecycle>,
    channels: ChannelsArguments,
    shards: ShardsArguments,
    /// For a hub that shares its log with others.
    bridge: Option<BridgeArguments>,
    sampler: SamplerArguments,
}

/// Its state.
struct RootState {
    arguments: RootArguments,
    log: ActorId,
    channels: ActorRef<ChannelsMsg>,
    shards: ActorRef<ShardsMsg>,
    bridge: Option<ActorRef<BridgeMsg>>,
    sampler: ActorRef<SamplerMsg>,
    restarts: Restarts,
    /// Apart from the others: a hub does not fail for want of samples.
    sampler_restarts: Restarts,
}

impl Actor for Root {
    type Msg = RootMsg;
    type State = RootState;
    type Arguments = RootArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMsg>,
        arguments: RootArguments,
    ) -> Result<RootState, ActorProcessingErr> {
        let log = Arc::clone(&arguments.channels.log);
        let (log, _) = LogActor::spawn_linked(None, LogActor, log, myself.get_cell()).await?;
        let channels = arguments.start_channels(&myself).await?;
        let shards = arguments.start_shards(&myself).await?;
        let bridge = arguments.start_bridge(&myself).await?;
        let sampler = arguments.start_sampler(&myself).await?;
        let log = log.get_id();
        let (restarts, sampler_restarts) = (Restarts::new(RESTARTS), Restarts::new(RESTARTS));
        Ok(RootState {
            arguments,
            log,
            channels,
            shards,
            bridge,
            sampler,
            restarts,
            sampler_restarts,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMsg>,
        msg: RootMsg,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RootMsg::StartSampler => state.start_sampler(&myself).await,
            RootMsg::Fault(fault) => {
                if let Err(error) = state.plant(fault) {
                    tracing::warn!(error, "the fault could not be planted");
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
        } else if state.bridge.as_ref().is_some_and(|bridge| bridge.get_id() == id) {
            "bridge"
        } else if id == state.sampler.get_id() {
            state.restart_sampler(&myself, &error).await;
            return Ok(());
        } else {
            return Ok(());
        };
        tracing::error!(child, error, "an actor of the hub failed");
        state.arguments.channels.metrics.restarts.count(child);
        if !state.restarts.allow(state.arguments.shards.context.clock.now_ms()) {
            return state.fail(format!("the {child} actor fails too often: {error}"));
        }
        let started = match child {
            "channels" => {
                state.arguments.start_channels(&myself).await.map(|new| state.channels = new)
            }
            "shards" => state.arguments.start_shards(&myself).await.map(|new| state.shards = new),
            _ => state.arguments.start_bridge(&myself).await.map(|new| state.bridge = new),
        };
        match started {
            Ok(()) => Ok(()),
            Err(error) => state.fail(format!("the {child} actor did not start: {error}")),
        }
    }
}

impl RootState {
    /// Starts the sampler again: at once, or after a pause if it fails too often.
    async fn restart_sampler(&mut self, myself: &ActorRef<RootMsg>, error: &str) {
        tracing::error!(child = "sampler", error, "an actor of the hub failed");
        self.arguments.channels.metrics.restarts.count("sampler");
        if self.sampler_restarts.allow(self.arguments.shards.context.clock.now_ms()) {
            return self.start_sampler(myself).await;
        }
        let pause = Duration::from_millis(RESTARTS.window_ms);
        tracing::error!(
            pause_s = pause.as_secs(),
            "the sampler fails too often; no samples are taken until the pause is over"
        );
        myself.send_after(pause, || RootMsg::StartSampler);
    }

    async fn start_sampler(&mut self, myself: &ActorRef<RootMsg>) {
        match self.arguments.start_sampler(myself).await {
            Ok(sampler) => self.sampler = sampler,
            Err(error) => {
                tracing::error!(%error, "the sampler did not start; no samples are taken for now");
                let pause = Duration::from_millis(RESTARTS.window_ms);
                myself.send_after(pause, || RootMsg::StartSampler);
            }
        }
    }

    /// Fails the hub, so that the program that runs it ends.
    fn fail(&self, why: String) -> Result<(), ActorProcessingErr> {
        tracing::error!(why, "the hub fails");
        self.arguments.channels.log.stop();
        self.arguments.lifecycle.fail(why);
        Ok(())
    }

    fn plant(&self, fault: Fault) -> Result<(), ActorProcessingErr> {
        tracing::warn!(?fault, "planting a fault");
        let shards = &self.arguments.shards.context.shards;
        let to_shard = |index: usize, msg: ShardMsg| match shards.find(index) {
            Some(shard) => shard.cast(msg),
            None => Ok(()),
        };
        match fault {
            Fault::Root => panic!("planted fault in the root"),
            Fault::Log => self.arguments.channels.log.plant_fault(),
            Fault::Channels => self.channels.cast(ChannelsMsg::Panic(None))?,
            Fault::Channel(name) => self.channels.cast(ChannelsMsg::Panic(Some(name)))?,
            Fault::KillChannel(name) => self.channels.cast(ChannelsMsg::Kill(name))?,
            Fault::Shards => self.shards.cast(ShardsMsg::Panic)?,
            Fault::Shard(index) => to_shard(index, ShardMsg::Panic)?,
            Fault::KillShard(index) => self.shards.cast(ShardsMsg::Kill(index))?,
            Fault::Bridge => {
                if let Some(bridge) = &self.bridge {
                    bridge.cast(BridgeMsg::Panic)?;
                }
            }
            Fault::Sampler => self.sampler.cast(SamplerMsg::Panic)?,
            Fault::Connection(name) => {
                let planted = Arc::new(AtomicBool::new(false));
                for index in 0..shards.count() {
                    let msg = ShardMsg::PanicConnection(name.clone(), Arc::clone(&planted));
                    to_shard(index, msg)?;
                }
            }
        }
        Ok(())
    }
}

impl RootArguments {
    async fn start_channels(
        &self,
        root: &ActorRef<RootMsg>,
    ) -> Result<ActorRef<ChannelsMsg>, ActorProcessingErr> {
        let arguments = self.channels.clone();
        Ok(Channels::spawn_linked(None, Channels, arguments, root.get_cell()).await?.0)
    }

    /// Starts the bridge, if there is a log to share.
    async fn start_bridge(
        &self,
        root: &ActorRef<RootMsg>,
    ) -> Result<Option<ActorRef<BridgeMsg>>, ActorProcessingErr> {
        let Some(arguments) = self.bridge.clone() else { return Ok(None) };
        Ok(Some(Bridge::spawn_linked(None, Bridge, arguments, root.get_cell()).await?.0))
    }

    async fn start_sampler(
        &self,
        root: &ActorRef<RootMsg>,
    ) -> Result<ActorRef<SamplerMsg>, ActorProcessingErr> {
        let arguments = self.sampler.clone();
        Ok(Sampler::spawn_linked(None, Sampler, arguments, root.get_cell()).await?.0)
    }

    async fn start_shards(
        &self,
        root: &ActorRef<RootMsg>,
    ) -> Result<ActorRef<ShardsMsg>, ActorProcessingErr> {
        let arguments = self.shards.clone();
        Ok(Shards::spawn_linked(None, Shards, arguments, root.get_cell()).await?.0)
    }
}

const RESTARTS: RestartPolicy = RestartPolicy { restarts_max: 5, window_ms: 60_000 };
