//! The actor around an engine.
//!
//! Parent: the shards supervisor. Children: its connections, which are slots of its engine and
//! not actors of ractor (docs/adr/002-connections-are-slots.md). Mailbox: control only, bounded
//! by the connection limit; batches come through a ring. A crash drops its sockets, whose
//! clients resume by their positions, on another shard or on its successor.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use ractor::{ActorProcessingErr, ActorRef, thread_local::ThreadLocalActor};
use tokio::{
    sync::watch,
    task::{AbortHandle, spawn_local},
};

use super::{
    engine::Engine,
    front::{self, Front},
    local_shard::LocalShard,
    serving_loop::serve_connections,
};
use crate::actors::{
    lease::Renew, messages::ShardMsg, reply::ReplyPeer, shard_context::ShardContext,
};

/// The actor.
#[derive(Default)]
pub(in crate::actors) struct Shard;

/// The actor's arguments.
pub(in crate::actors) struct ShardArguments {
    pub(in crate::actors) context: Arc<ShardContext>,
    pub(in crate::actors) index: usize,
    /// The front, once one is set; it serves clients on this thread.
    pub(in crate::actors) front: watch::Receiver<Option<Arc<dyn Front>>>,
}

/// The actor's state. Dropping it ends the shard's tasks and connections.
pub(in crate::actors) struct ShardState {
    local: LocalShard,
    engine: Rc<RefCell<Engine>>,
    tasks: Vec<AbortHandle>,
    _alive: watch::Sender<()>,
}

impl Drop for ShardState {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.local.disconnect_front();
    }
}

impl ThreadLocalActor for Shard {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = ShardArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMsg>,
        ShardArguments { context, index, front }: ShardArguments,
    ) -> Result<ShardState, ActorProcessingErr> {
        // The inbox is opened before the engine reads the head, so that no batch is missed between
        // the two.
        let inbox = context.inboxes.open(index);
        let engine = Engine::new(
            Arc::clone(&context.store),
            context.limits.clone(),
            Arc::clone(&context.metrics),
            index,
            fastrand::u64(..),
            context.clock.now_ms(),
        )
        .with_log_reads(context.log_reads.clone())
        .with_poll_times(Arc::clone(&context.poll_times));
        let engine = Rc::new(RefCell::new(engine));
        let (alive_sender, alive) = watch::channel(());
        let local = LocalShard::new(index, context, &engine, alive)?;
        let mut state =
            ShardState { local: local.clone(), engine, tasks: Vec::new(), _alive: alive_sender };
        state.spawn(
            &myself,
            "fan-out",
            serve_connections(local.clone(), inbox, Rc::clone(&state.engine)),
        );
        state.spawn(&myself, "front", front::serve(front, local));
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMsg>,
        msg: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ShardMsg::Attach(subscriber, reply) => {
                let _ = reply.send(state.local.attach_body(*subscriber));
            }
            ShardMsg::Wait(subscriber, reply) => {
                let peer = Box::new(ReplyPeer::new(reply));
                state.local.attach_peer(*subscriber, peer, Bytes::new(), None);
            }
            ShardMsg::Adopt(stream) => state.local.adopt(*stream),
            ShardMsg::Drain(window, done) => {
                let now_ms = state.local.context.clock.now_ms();
                let mut engine = state.engine.borrow_mut();
                engine.drain(window.as_millis() as u64, now_ms);
                engine.when_empty(done);
                let _ = myself.cast(ShardMsg::DrainSome);
            }
            ShardMsg::DrainSome => {
                let now_ms = state.local.context.clock.now_ms();
                let is_unfinished = state.engine.borrow_mut().drain_some(now_ms);
                // The shard serves its clients in between.
                if is_unfinished {
                    let _ = myself.cast(ShardMsg::DrainSome);
                }
            }
            ShardMsg::EndAll(done) => {
                let now_ms = state.local.context.clock.now_ms();
                let has_ended = state.engine.borrow_mut().end_some(now_ms);
                // The shard serves its other clients in between.
                if !has_ended {
                    let _ = myself.cast(ShardMsg::EndAll(done));
                }
            }
            ShardMsg::Explain(query, reply) => {
                let now_ms = state.local.context.clock.now_ms();
                let mut matches = state.engine.borrow_mut().explain(&query, now_ms);
                matches.found.iter_mut().for_each(|found| found.shard = state.local.index());
                let _ = reply.send(matches);
            }
            ShardMsg::ExplainClosed(filter, reply) => {
                let mut ended = state.engine.borrow().recently_closed(&filter);
                ended.iter_mut().for_each(|ended| ended.shard = state.local.index());
                let _ = reply.send(ended);
            }
            ShardMsg::End(query, reply) => {
                let now_ms = state.local.context.clock.now_ms();
                let _ = reply.send(state.engine.borrow_mut().end(&query, now_ms));
            }
            ShardMsg::Renew(renew, reply) => {
                let Renew { key, id, identity, until_ms } = renew;
                let now_ms = state.local.context.clock.now_ms();
                let mut engine = state.engine.borrow_mut();
                let _ = reply.send(engine.renew(key, id, &identity, until_ms, now_ms));
            }
            ShardMsg::TaskEnded(task) => return Err(format!("its {task} task ended").into()),
            ShardMsg::Panic => panic!("planted fault in a shard"),
            ShardMsg::PanicConnection(channel, planted) => {
                let mut engine = state.engine.borrow_mut();
                // Several shards plant the fault at the same time; the first to set `planted` keeps
                // it.
                if engine.plant_fault(&channel) && planted.swap(true, Ordering::AcqRel) {
                    engine.withdraw_fault();
                }
            }
        }
        Ok(())
    }
}

impl ShardState {
    /// Spawns a task whose end fails the shard.
    fn spawn(
        &mut self,
        myself: &ActorRef<ShardMsg>,
        name: &'static str,
        task: impl Future<Output = ()> + 'static,
    ) {
        let task = spawn_local(task);
        self.tasks.push(task.abort_handle());
        let myself = myself.clone();
        spawn_local(async move {
            match task.await {
                Err(error) if error.is_cancelled() => {}
                _ => {
                    let _ = myself.cast(ShardMsg::TaskEnded(name));
                }
            }
        });
    }
}
