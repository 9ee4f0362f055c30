//! A channel's actor: evicts old events, and the channel when it is empty.
//!
//! Parent: the channels supervisor. Children: none. Mailbox: one tick at a time. It evicts what
//! is too old, evicts the channel when nothing is left of it, lets tombstones expire, and stops
//! when the channel is idle; the supervisor's sweep brings it back when something is due. A
//! crash costs a restart: everything it knows is in the channel's entry.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{clock::Clock, messages::ChannelMsg};
use crate::{
    backend::{ChannelEntry, EventStore},
    core::Limits,
};

/// The actor.
pub(super) struct Channel;

/// What it is started with.
pub(super) struct ChannelArguments {
    pub(super) context: Arc<ChannelContext>,
    pub(super) entry: Arc<ChannelEntry>,
}

/// What all channel actors of a hub work on.
#[derive(Debug)]
pub(crate) struct ChannelContext {
    pub(crate) store: Arc<EventStore>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Clock,
}

/// Its state.
pub(super) struct ChannelState {
    context: Arc<ChannelContext>,
    entry: Option<Arc<ChannelEntry>>,
}

impl Actor for Channel {
    type Msg = ChannelMsg;
    type State = ChannelState;
    type Arguments = ChannelArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ChannelMsg>,
        ChannelArguments { context, entry }: ChannelArguments,
    ) -> Result<ChannelState, ActorProcessingErr> {
        myself.cast(ChannelMsg::Tick)?;
        Ok(ChannelState { context, entry: Some(entry) })
    }

    async fn handle(
        &self,
        myself: ActorRef<ChannelMsg>,
        msg: ChannelMsg,
        state: &mut ChannelState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ChannelMsg::Tick => match state.tick() {
                Some(wait) => {
                    myself.send_after(wait, || ChannelMsg::Tick);
                }
                None => myself.stop(None),
            },
            ChannelMsg::Panic => panic!("planted fault in a channel"),
        }
        Ok(())
    }
}

impl ChannelState {
    /// Does what is due. Returns the time to the next tick, or none when the channel needs no actor
    /// for now.
    fn tick(&mut self) -> Option<Duration> {
        let entry = Arc::clone(self.entry.as_ref()?);
        let now_ms = self.context.clock.now_ms();
        let limits = &self.context.limits;
        if self.context.store.evict_due(&entry, now_ms) {
            return Some(Duration::ZERO);
        }
        let tombstone_ms = u64::from(limits.channels.tombstone_s) * 1_000;
        if entry.events().closed_ms().is_some_and(|closed_ms| closed_ms + tombstone_ms <= now_ms) {
            if self.context.store.evict_closed(&entry) {
                return Some(Duration::ZERO);
            }
            // A stream that names several channels may keep the entry alive, so reopen it instead
            // of relying on eviction.
            self.context.store.reopen(&entry);
            return self.leave(entry, now_ms, 0);
        }
        let idle_ms = u64::from(limits.channels.idle_s) * 1_000;
        let age_max_ms = u64::from(entry.policy().history.age_max_s) * 1_000;
        let aged_ms = entry.events().with_history(|history| {
            history.oldest_ms().map(|at_ms| (at_ms + age_max_ms).saturating_sub(now_ms))
        });
        let closed_ms =
            entry.events().closed_ms().map(|at| (at + tombstone_ms).saturating_sub(now_ms));
        let due_ms = aged_ms.into_iter().chain(closed_ms).min();
        if entry.used_ms() + idle_ms > now_ms {
            // What is published or closed before the next tick is due no earlier than that.
            let at_most_ms = idle_ms.min(age_max_ms).min(tombstone_ms);
            let next_ms = due_ms.unwrap_or(u64::MAX).min(at_most_ms).max(TICK_MIN_MS);
            return Some(Duration::from_millis(next_ms));
        }
        self.leave(entry, now_ms, due_ms.unwrap_or(idle_ms))
    }

    /// Stops: evicts the channel if nothing is left of it, or sets when it needs an actor again.
    fn leave(&mut self, entry: Arc<ChannelEntry>, now_ms: u64, next_ms: u64) -> Option<Duration> {
        self.entry = None;
        entry.wake_at(now_ms + next_ms.max(TICK_MIN_MS));
        entry.release();
        // A closed channel stays, empty or not, until its tombstone has expired.
        let is_tombstone = entry.events().closed_ms().is_some_and(|closed_ms| closed_ms > 0);
        if !is_tombstone && entry.is_removable() {
            self.context.store.registry().directory().evict(entry);
        }
        None
    }
}

/// The shortest time between two ticks of a channel, in milliseconds.
const TICK_MIN_MS: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Registry,
        model::{ChannelName, Draft, Epoch, Event, EventKind, Seq},
    };

    #[test]
    fn a_tombstone_outlives_its_history() {
        let context = context();
        let entry = closed(&context, 1);
        assert_eq!(tick(&context, entry), None, "it needs no actor until its tombstone expires");
        let directory = context.store.registry().directory();
        let entry = directory.find(&name()).expect("its tombstone");
        assert!(entry.events().is_closed() && entry.is_removable());
        entry.expire();
        assert_eq!(tick(&context, entry), None);
        assert!(directory.find(&name()).is_none(), "it may be created anew");
    }

    #[test]
    fn the_history_of_a_closed_channel_goes_in_bounded_steps() {
        let mut limits = limits();
        limits.history.age_max_s = 3_600;
        let context = context_of(limits);
        let entry = closed(&context, 600);
        entry.expire();
        let retained = |entry: &ChannelEntry| entry.events().with_history(|history| history.len());
        for left in [344, 88] {
            assert_eq!(tick(&context, Arc::clone(&entry)), Some(Duration::ZERO));
            assert_eq!(retained(&entry), left);
            assert!(entry.events().is_closed(), "it takes no event between the steps");
        }
        assert_eq!(tick(&context, Arc::clone(&entry)), None);
        assert_eq!(retained(&entry), 0);
        assert!(!entry.events().is_closed());
    }

    fn limits() -> Limits {
        let mut limits = Limits::default();
        limits.history.age_max_s = 60;
        limits.channels.idle_s = 1;
        limits
    }

    fn context() -> Arc<ChannelContext> {
        context_of(limits())
    }

    fn context_of(limits: Limits) -> Arc<ChannelContext> {
        let registry = Arc::new(Registry::new(&limits));
        let store = EventStore::new(Epoch::new(1, 1), limits.history.total_bytes_max, registry);
        let (store, limits) = (Arc::new(store), Arc::new(limits));
        Arc::new(ChannelContext { store, limits, clock: Clock::start() })
    }

    /// A channel with so many events, the last of which closed it two minutes ago.
    fn closed(context: &ChannelContext, events: u64) -> Arc<ChannelEntry> {
        let closed_ms = context.clock.now_ms() - 120_000;
        let store = &context.store;
        let directory = store.registry().directory();
        let entry = directory.find_or_create(&name(), closed_ms).expect("room");
        for seq in 1..=events {
            let position = store.position(Seq(seq));
            let kind = match seq == events {
                true => EventKind::Closed,
                false => EventKind::Published,
            };
            let event = Event {
                seq: position.seq,
                epoch: position.epoch,
                time_ms: closed_ms,
                accepted_ms: closed_ms,
                channel: name(),
                kind,
                frame: Draft::closed("c").finish(position),
            };
            store.append(&entry, &Arc::new(event));
        }
        store.commit(Seq(events));
        entry
    }

    fn tick(context: &Arc<ChannelContext>, entry: Arc<ChannelEntry>) -> Option<Duration> {
        ChannelState { context: Arc::clone(context), entry: Some(entry) }.tick()
    }

    fn name() -> ChannelName {
        ChannelName::parse("c").expect("a name")
    }
}
