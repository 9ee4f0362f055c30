//! The supervisor of the channel actors.
//!
//! Parent: the root. Children: one channel actor for each channel in use, temporary. Mailbox:
//! `Start` is coalesced per channel, so the directory's cap bounds it; `Sweep` comes from one
//! timer. A crash ends its children; its successor's first sweep gives every channel in need an
//! actor again.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rustc_hash::FxHashMap;

use super::{
    channel::{Channel, ChannelArguments, ChannelContext},
    channels_handle::ChannelsHandle,
    log::Log,
    messages::{ChannelMsg, ChannelsMsg},
};
use crate::{
    backend::ChannelEntry,
    core::{RestartPolicy, Restarts},
    model::ChannelName,
    telemetry::Metrics,
};

/// The actor.
pub(super) struct Channels;

/// What it is started with.
#[derive(Debug, Clone)]
pub(crate) struct ChannelsArguments {
    pub(crate) context: Arc<ChannelContext>,
    pub(crate) handle: Arc<ChannelsHandle>,
    pub(crate) log: Arc<Log>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Its state.
pub(super) struct ChannelsState {
    arguments: ChannelsArguments,
    children: FxHashMap<ActorId, (ActorRef<ChannelMsg>, Weak<ChannelEntry>)>,
    tombstones: VecDeque<Weak<ChannelEntry>>,
    restarts: Restarts,
}

impl Actor for Channels {
    type Msg = ChannelsMsg;
    type State = ChannelsState;
    type Arguments = ChannelsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ChannelsMsg>,
        arguments: ChannelsArguments,
    ) -> Result<ChannelsState, ActorProcessingErr> {
        myself.send_interval(SWEEP_INTERVAL, || ChannelsMsg::Sweep);
        // A predecessor's children died with it.
        let registry = arguments.context.store.registry();
        for entry in registry.directory().select(usize::MAX, |_| true) {
            entry.release();
        }
        arguments.handle.set(myself);
        Ok(ChannelsState {
            arguments,
            children: FxHashMap::default(),
            tombstones: VecDeque::new(),
            restarts: Restarts::new(RESTARTS),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ChannelsMsg>,
        msg: ChannelsMsg,
        state: &mut ChannelsState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ChannelsMsg::Start(entry) => state.spawn(&myself, entry).await,
            ChannelsMsg::Closed(entry) => state.keep_tombstone(&entry),
            ChannelsMsg::Sweep => state.sweep(&myself).await,
            ChannelsMsg::Panic(None) => panic!("planted fault in the channels supervisor"),
            ChannelsMsg::Panic(Some(name)) => {
                if let Some(child) = state.child(&name) {
                    child.cast(ChannelMsg::Panic)?;
                }
            }
            ChannelsMsg::Kill(name) => {
                if let Some(child) = state.child(&name) {
                    child.kill();
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ChannelsMsg>,
        event: SupervisionEvent,
        state: &mut ChannelsState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, failure) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, Some(error.to_string())),
            SupervisionEvent::ActorTerminated(actor, _, Some(reason)) if reason == "killed" => {
                (actor, Some(reason))
            }
            SupervisionEvent::ActorTerminated(actor, _, _) => (actor, None),
            _ => return Ok(()),
        };
        let Some((_, entry)) = state.children.remove(&actor.get_id()) else { return Ok(()) };
        let Some(error) = failure else { return Ok(()) };
        let Some(entry) = entry.upgrade() else { return Ok(()) };
        state.arguments.metrics.restarts.count("channel");
        tracing::error!(channel = %entry.name(), error, "a channel's actor failed");
        if state.restarts.allow(state.arguments.context.clock.now_ms()) {
            state.spawn(&myself, entry).await;
        } else {
            // The sweep tries again, at its own pace.
            entry.release();
        }
        Ok(())
    }
}

impl ChannelsState {
    async fn spawn(&mut self, myself: &ActorRef<ChannelsMsg>, entry: Arc<ChannelEntry>) {
        let weak = Arc::downgrade(&entry);
        let context = Arc::clone(&self.arguments.context);
        let arguments = ChannelArguments { context, entry };
        match Channel::spawn_linked(None, Channel, arguments, myself.get_cell()).await {
            Ok((child, _)) => {
                self.children.insert(child.get_id(), (child, weak));
            }
            Err(error) => {
                tracing::error!(%error, "a channel's actor did not start");
                if let Some(entry) = weak.upgrade() {
                    entry.release();
                }
            }
        }
    }

    async fn sweep(&mut self, myself: &ActorRef<ChannelsMsg>) {
        let ChannelsArguments { context, log, metrics, .. } = self.arguments.clone();
        let now_ms = context.clock.now_ms();
        let directory = context.store.registry().directory();
        let mut actors_left = SWEEP_ACTORS_MAX;
        for entry in directory.select(SWEEP_CHANNELS_MAX, |entry| entry.needs_actor(now_ms)) {
            if entry.events().never_published() {
                self.check_unused(entry, now_ms);
            } else if actors_left > 0 && entry.claim() {
                actors_left -= 1;
                self.spawn(myself, entry).await;
            }
        }
        metrics.channels.set(directory.len() as i64);
        metrics.history_bytes.set(context.store.bytes() as i64);
        metrics.permits_free.set(log.permits().available_permits() as i64);
        metrics.channels_throttled.set(context.store.registry().throttles().len() as i64);
    }

    /// Evicts a channel that has never had an event, once it is idle. It has no actor, which would
    /// cost more than all else of it: a client may name any number of channels.
    fn check_unused(&self, entry: Arc<ChannelEntry>, now_ms: u64) {
        let idle_ms = u64::from(self.arguments.context.limits.channels.idle_s) * 1_000;
        let idle_at_ms = entry.used_ms() + idle_ms;
        if idle_at_ms <= now_ms && entry.has_no_subscribers() {
            // If it has been taken from the directory meanwhile, it stays, and is checked again.
            self.arguments.context.store.registry().directory().evict(entry);
        } else {
            entry.wake_at(idle_at_ms.max(now_ms + SWEEP_INTERVAL.as_millis() as u64));
        }
    }

    /// Keeps the tombstone of a closed channel; past the cap the oldest expires early.
    fn keep_tombstone(&mut self, entry: &Arc<ChannelEntry>) {
        self.tombstones.retain(|tombstone| tombstone.strong_count() > 0);
        self.tombstones.push_back(Arc::downgrade(entry));
        while self.tombstones.len() > self.arguments.context.limits.channels.tombstones_max as usize
        {
            let Some(oldest) = self.tombstones.pop_front().and_then(|weak| weak.upgrade()) else {
                continue;
            };
            oldest.expire();
            if let Some(child) = self.child(oldest.name()) {
                let _ = child.cast(ChannelMsg::Tick);
            }
        }
    }

    fn child(&self, name: &ChannelName) -> Option<ActorRef<ChannelMsg>> {
        let entry = self.arguments.context.store.registry().directory().find(name)?;
        let same = |weak: &Weak<ChannelEntry>| weak.as_ptr() == Arc::as_ptr(&entry);
        self.children.values().find(|(_, weak)| same(weak)).map(|(child, _)| child.clone())
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Channels looked at by one sweep, and those of them that are given an actor.
const SWEEP_CHANNELS_MAX: usize = 10_000;
const SWEEP_ACTORS_MAX: usize = 1_000;
const RESTARTS: RestartPolicy = RestartPolicy { restarts_max: 100, window_ms: 10_000 };
