//! The supervisor of the channel actors.
//!
//! Parent: the root. Children: one channel actor for each channel in use, temporary. Mailbox:
//! `Start` is coalesced per channel, so the directory's cap bounds it; `Closed` is one message at a
//! time; the next `Sweep` comes an interval after the end of the last. A crash ends its children;
//! the sweeps of its successor give every channel in need an actor again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rustc_hash::FxHashMap;
use tokio::task::yield_now;

use super::{
    channel::{Channel, ChannelArguments, ChannelContext},
    channels_handle::ChannelsHandle,
    log::Log,
    messages::{ChannelMsg, ChannelsMsg},
};
use crate::{
    backend::{ChannelEntry, ChannelId},
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
    children: FxHashMap<ActorId, Child>,
    /// The child of a channel, the newest if its predecessor has not ended yet.
    by_channel: FxHashMap<ChannelId, ActorId>,
    /// The last name that a sweep visited; the next sweep continues after it.
    swept_to: Option<ChannelName>,
    restarts: Restarts,
}

struct Child {
    actor: ActorRef<ChannelMsg>,
    channel: ChannelId,
    entry: Weak<ChannelEntry>,
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
        myself.send_after(SWEEP_INTERVAL, || ChannelsMsg::Sweep);
        // A predecessor's children died with it.
        let registry = arguments.context.store.registry();
        for entry in registry.directory().select(usize::MAX, |_| true) {
            entry.release();
        }
        arguments.handle.set(myself);
        Ok(ChannelsState {
            arguments,
            children: FxHashMap::default(),
            by_channel: FxHashMap::default(),
            swept_to: None,
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
            ChannelsMsg::Closed => {
                state.arguments.handle.take_closed();
                state.expire_excess_tombstones();
            }
            ChannelsMsg::Sweep => {
                state.sweep(&myself).await;
                // After its end: a sweep may take longer than the interval.
                myself.send_after(SWEEP_INTERVAL, || ChannelsMsg::Sweep);
            }
            ChannelsMsg::Panic(None) => panic!("planted fault in the channels supervisor"),
            ChannelsMsg::Panic(Some(name)) => {
                if let Some(child) = state.child_named(&name) {
                    child.cast(ChannelMsg::Panic)?;
                }
            }
            ChannelsMsg::Kill(name) => {
                if let Some(child) = state.child_named(&name) {
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
        let Some(child) = state.remove_child(actor.get_id()) else { return Ok(()) };
        let Some(error) = failure else { return Ok(()) };
        let Some(entry) = child.entry.upgrade() else { return Ok(()) };
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
        let (channel, weak) = (entry.id(), Arc::downgrade(&entry));
        let context = Arc::clone(&self.arguments.context);
        let arguments = ChannelArguments { context, entry };
        match Channel::spawn_linked(None, Channel, arguments, myself.get_cell()).await {
            Ok((child, _)) => {
                self.by_channel.insert(channel, child.get_id());
                self.children.insert(child.get_id(), Child { actor: child, channel, entry: weak });
            }
            Err(error) => {
                tracing::error!(%error, "a channel's actor did not start");
                if let Some(entry) = weak.upgrade() {
                    entry.release();
                }
            }
        }
    }

    /// Gives channels in need an actor, and evicts those that are empty and idle. It continues
    /// where the last sweep ended, so that every channel is reached.
    async fn sweep(&mut self, myself: &ActorRef<ChannelsMsg>) {
        self.expire_excess_tombstones();
        self.sweep_once_around(myself).await;
        let ChannelsArguments { context, log, metrics, .. } = &self.arguments;
        let registry = context.store.registry();
        metrics.channels.set(registry.directory().len() as i64);
        metrics.history_bytes.set(context.store.bytes() as i64);
        metrics.permits_free.set(log.permits().available_permits() as i64);
        metrics.channels_throttled.set(registry.throttles().len() as i64);
    }

    async fn sweep_once_around(&mut self, myself: &ActorRef<ChannelsMsg>) {
        let context = Arc::clone(&self.arguments.context);
        let directory = context.store.registry().directory();
        let now_ms = context.clock.now_ms();
        let begun_after = self.swept_to.clone();
        let mut is_past_end = begun_after.is_none();
        let (mut channels_left, mut actors_left) = (SWEEP_CHANNELS_MAX, SWEEP_ACTORS_MAX);
        loop {
            let (due, next) =
                directory.next_due(self.swept_to.as_ref(), |entry| entry.needs_actor(now_ms));
            for entry in due {
                if channels_left == 0 || actors_left == 0 {
                    return;
                }
                channels_left -= 1;
                self.swept_to = Some(entry.name().clone());
                if entry.is_open_and_empty() {
                    self.check_unused(entry, now_ms);
                } else if entry.claim() {
                    actors_left -= 1;
                    self.spawn(myself, entry).await;
                }
            }
            self.swept_to = next;
            if self.swept_to.is_none() {
                if is_past_end {
                    return;
                }
                is_past_end = true;
            } else if is_past_end && self.swept_to >= begun_after {
                return;
            }
            yield_now().await;
        }
    }

    /// Evicts a channel that is open and has no events, once it is idle. Such a channel gets no
    /// actor, which would take several times its memory: clients can name many.
    fn check_unused(&self, entry: Arc<ChannelEntry>, now_ms: u64) {
        let idle_ms = u64::from(self.arguments.context.limits.channels.idle_s) * 1_000;
        let idle_at_ms = entry.used_ms() + idle_ms;
        if !entry.has_no_subscribers() {
            entry.wake_at(now_ms + idle_ms.max(SWEEP_INTERVAL.as_millis() as u64));
        } else if idle_at_ms <= now_ms {
            // If it has been taken from the directory meanwhile, it stays, and is checked again.
            self.arguments.context.store.registry().directory().evict(entry);
        } else {
            entry.wake_at(idle_at_ms);
        }
    }

    /// Reopens the channels with the oldest tombstones past the cap.
    fn expire_excess_tombstones(&self) {
        let store = &self.arguments.context.store;
        for entry in store.registry().tombstones().take_excess() {
            match self.child(&entry) {
                // It evicts the channel, too, unless that is in use again.
                Some(child) => {
                    let _ = child.cast(ChannelMsg::Tick);
                }
                None => {
                    store.reopen(&entry);
                    store.registry().directory().evict(entry);
                }
            }
        }
    }

    fn child_named(&self, name: &ChannelName) -> Option<&ActorRef<ChannelMsg>> {
        self.child(&*self.arguments.context.store.registry().directory().find(name)?)
    }

    fn child(&self, entry: &ChannelEntry) -> Option<&ActorRef<ChannelMsg>> {
        Some(&self.children.get(self.by_channel.get(&entry.id())?)?.actor)
    }

    fn remove_child(&mut self, actor: ActorId) -> Option<Child> {
        let child = self.children.remove(&actor)?;
        if self.by_channel.get(&child.channel) == Some(&actor) {
            self.by_channel.remove(&child.channel);
        }
        Some(child)
    }
}

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Channels that one sweep finds due, and those of them that are given an actor.
const SWEEP_CHANNELS_MAX: usize = if cfg!(test) { 16 } else { 10_000 };
const SWEEP_ACTORS_MAX: usize = if cfg!(test) { 8 } else { 1_000 };
const RESTARTS: RestartPolicy = RestartPolicy { restarts_max: 100, window_ms: 10_000 };
