//! The actor around an engine: its thread, its batches, its time.
//!
//! Parent: the shards supervisor. Children: its connections, which are slots of its engine and
//! not actors of ractor (docs/adr/002-connections-are-slots.md). Mailbox: control only, bounded
//! by the connection limit; batches come through a ring. A crash drops its sockets, whose
//! clients resume by their positions, on another shard or on its successor.

use std::{
    cell::RefCell,
    future::{Future, pending, poll_fn},
    io,
    pin::Pin,
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    thread,
    time::Duration,
};

use bytes::Bytes;
use ractor::{ActorProcessingErr, ActorRef, SupervisionEvent, thread_local::ThreadLocalActor};
use tokio::{
    sync::{oneshot, watch},
    task::{AbortHandle, spawn_local, yield_now},
    time::Instant,
};

use super::{
    engine::{Engine, ReturnedSocket},
    fan_out_budget::FanOutBudget,
    sockets::Sockets,
};
use crate::{
    actors::{
        body::{BodyPeer, EventBody},
        inbox::Inbox,
        lease::Renew,
        messages::{ShardMsg, StreamTransfer},
        peer::{Peer, PollSocket, StreamSocket},
        reply::ReplyPeer,
        shard_context::ShardContext,
        socket::Socket,
        subscriber::{PollTicket, Subscriber},
        tls_peer::TlsPeer,
    },
    core::Transport,
    model::PollReply,
};

/// The actor.
#[derive(Default)]
pub(in crate::actors) struct Shard;

/// What it is started with.
pub(in crate::actors) struct ShardArguments {
    pub(in crate::actors) context: Arc<ShardContext>,
    pub(in crate::actors) index: usize,
    /// Serves clients on this thread, once there is one.
    pub(in crate::actors) front: watch::Receiver<Option<Arc<dyn Front>>>,
}

/// Serves clients on a shard's thread: accepts, speaks a protocol, and hands sockets over.
pub trait Front: Send + Sync + 'static {
    /// Runs until it is dropped; it is started again when its shard is.
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// A shard as seen by the tasks on its thread. It does not keep the shard alive.
#[derive(Clone)]
pub struct LocalShard {
    index: usize,
    context: Arc<ShardContext>,
    engine: Weak<RefCell<Engine>>,
    sockets: Rc<RefCell<Sockets>>,
    returns: Rc<RefCell<Option<Returns>>>,
    alive: watch::Receiver<()>,
}

/// Takes the sockets of answered polls.
type Returns = Rc<dyn Fn(ReturnedSocket)>;

impl LocalShard {
    /// Which shard.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Sets what takes the sockets of answered polls.
    pub fn on_returned(&self, returns: impl Fn(ReturnedSocket) + 'static) {
        *self.returns.borrow_mut() = Some(Rc::new(returns));
    }

    /// Completes when the shard is gone; its clients' tasks end then.
    pub async fn gone(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Hands a socket over; it may come to live on another shard. `early` was read from it already,
    /// `head` goes before the stream.
    pub fn attach(
        &self,
        subscriber: Subscriber,
        io: impl Into<Socket>,
        early: &[u8],
        head: Bytes,
        ticket: Option<PollTicket>,
    ) {
        match (subscriber.shape.transport(), io.into()) {
            (Transport::Poll, Socket::Plain(io)) => match PollSocket::new(io, early) {
                Ok(peer) => self.attach_peer(subscriber, Box::new(peer), head, ticket),
                Err(error) => log_register_failure(&error),
            },
            (Transport::Poll, Socket::Tls(io)) => {
                let peer = Box::new(TlsPeer::poll(io, early));
                self.attach_peer(subscriber, peer, head, ticket);
            }
            (Transport::Stream, Socket::Tls(io)) => {
                let peer = Box::new(TlsPeer::stream(io));
                self.attach_peer(subscriber, peer, head, ticket);
            }
            (Transport::Stream, Socket::Plain(io)) => {
                let socket = match StreamSocket::new(io) {
                    Ok(socket) => socket,
                    Err(error) => return log_register_failure(&error),
                };
                let transfer = StreamTransfer { subscriber, socket, head };
                if let Some(staying) = transfer.send_to(&self.context.shards, self.index) {
                    self.adopt(staying);
                }
            }
        }
    }

    /// Takes on a stream that is to live here.
    fn adopt(&self, stream: StreamTransfer) {
        let StreamTransfer { mut subscriber, socket, head } = stream;
        let Some(engine) = self.engine.upgrade() else { return };
        self.set_lease_shard(&mut subscriber);
        let now_ms = self.context.clock.now_ms();
        let (mut engine, sockets) = (engine.borrow_mut(), self.sockets.borrow());
        if let Err(error) = engine.attach_stream(subscriber, socket, &sockets, head, now_ms) {
            log_register_failure(&error);
        }
    }

    /// Hands any other kind of peer over: a transport of one's own, or load without sockets. It is
    /// used on this thread alone and must not call the shard back. Should the shard be gone, the
    /// peer is dropped.
    pub fn attach_peer(
        &self,
        mut subscriber: Subscriber,
        peer: Box<dyn Peer>,
        head: Bytes,
        ticket: Option<PollTicket>,
    ) {
        let Some(engine) = self.engine.upgrade() else { return };
        let now_ms = self.context.clock.now_ms();
        self.set_lease_shard(&mut subscriber);
        engine.borrow_mut().attach(subscriber, peer, head, ticket, now_ms);
        self.return_sockets(&engine);
    }

    /// Takes a stream on whose bytes are pulled as a body. Should the shard be gone, the body is at
    /// its end.
    pub fn attach_body(&self, subscriber: Subscriber) -> EventBody {
        let (peer, body) = BodyPeer::pair();
        self.attach_peer(subscriber, Box::new(peer), Bytes::new(), None);
        body
    }

    /// Lets a poll wait whose answer is taken as a value. Dropping the receiver ends the connection;
    /// should the shard be gone, it has an error.
    pub fn attach_poll(&self, subscriber: Subscriber) -> oneshot::Receiver<PollReply> {
        let (sender, reply) = oneshot::channel();
        let peer = Box::new(ReplyPeer::new(sender));
        self.attach_peer(subscriber, peer, Bytes::new(), None);
        reply
    }

    /// Tells a lease which shard its connection comes to.
    fn set_lease_shard(&self, subscriber: &mut Subscriber) {
        if let Some(lease) = &mut subscriber.lease {
            lease.shard = self.index;
        }
    }

    fn return_sockets(&self, engine: &RefCell<Engine>) {
        let finished = engine.borrow_mut().take_returned();
        if !finished.is_empty() {
            let returns = self.returns.borrow().clone();
            if let Some(returns) = returns {
                finished.into_iter().for_each(|finished| returns(finished));
            }
        }
        engine.borrow_mut().drop_if_empty();
    }
}

/// Its state. Dropping it ends the tasks and with them the connections.
pub(in crate::actors) struct ShardState {
    local: LocalShard,
    engine: Rc<RefCell<Engine>>,
    tasks: Vec<AbortHandle>,
    _alive: watch::Sender<()>,
}

impl Drop for ShardState {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        // It holds the front, which holds the shard's poller, and this.
        drop(self.local.returns.take());
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
        // Open before the engine reads the head, so that no batch falls between the two.
        let inbox = context.inboxes.open(index);
        let engine = Engine::new(
            Arc::clone(&context.store),
            context.limits.clone(),
            Arc::clone(&context.metrics),
            index,
            fastrand::u64(..),
            context.clock.now_ms(),
        );
        let engine = Rc::new(RefCell::new(engine));
        let (alive_sender, alive) = watch::channel(());
        let local = LocalShard {
            index,
            context,
            engine: Rc::downgrade(&engine),
            sockets: Rc::new(RefCell::new(Sockets::new()?)),
            returns: Rc::default(),
            alive,
        };
        let mut state =
            ShardState { local: local.clone(), engine, tasks: Vec::new(), _alive: alive_sender };
        state.spawn(&myself, "fan-out", fan_out(local.clone(), inbox, Rc::clone(&state.engine)));
        state.spawn(&myself, "front", serve(front, local));
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<ShardMsg>,
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
            }
            ShardMsg::Explain(query, reply) => {
                let now_ms = state.local.context.clock.now_ms();
                let mut matches = state.engine.borrow_mut().explain(&query, now_ms);
                matches.found.iter_mut().for_each(|found| found.shard = state.local.index);
                let _ = reply.send(matches);
            }
            ShardMsg::ExplainClosed(filter, reply) => {
                let mut ended = state.engine.borrow().recently_closed(&filter);
                ended.iter_mut().for_each(|ended| ended.shard = state.local.index);
                let _ = reply.send(ended);
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
                // Another shard may look at this moment: one of them has the token.
                if engine.plant_fault(&channel) && planted.swap(true, Ordering::AcqRel) {
                    engine.withdraw_fault();
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ShardMsg>,
        _: SupervisionEvent,
        _: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl ShardState {
    /// Runs a task that the shard cannot live without.
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

/// Serves clients as soon as there is a front.
async fn serve(mut front: watch::Receiver<Option<Arc<dyn Front>>>, shard: LocalShard) {
    let found = front.wait_for(Option::is_some).await.map(|front| front.clone());
    match found {
        Ok(Some(front)) => front.serve(shard).await,
        // The hub has been dropped, and none can come any more; streams that are open go on.
        _ => pending().await,
    }
}

fn log_register_failure(error: &io::Error) {
    tracing::debug!(%error, "a socket cannot be registered with the poller; it is closed");
}

/// The loop that serves the connections, a bounded pass at a time.
async fn fan_out(local: LocalShard, inbox: Arc<Inbox>, engine: Rc<RefCell<Engine>>) {
    let wakes = engine.borrow().ready_list();
    let mut ready = Vec::new();
    let mut next_tick = Instant::now();
    let mut check_sockets = true;
    let mut budget = FanOutBudget::new(next_tick);
    let tick = Duration::from_millis(local.context.limits.deadline_check_ms.into());
    loop {
        check_sockets |=
            poll_fn(|context| Poll::Ready(local.sockets.borrow().are_ready(context))).await;
        let more = {
            let mut engine = engine.borrow_mut();
            let now_ms = local.context.clock.now_ms();
            if let Some(through) = inbox.caught_up_to() {
                engine.note_log_head(through);
            }
            // However much there is to send, deadlines are checked.
            if Instant::now() >= next_tick && !engine.tick(now_ms) {
                next_tick = Instant::now() + tick;
            }
            if engine.wants_batches() {
                for batch in std::iter::from_fn(|| inbox.pop()).take(BATCHES_PER_PASS) {
                    engine.push_batch(batch, now_ms);
                }
            }
            let serving = Instant::now();
            if check_sockets {
                ready.clear();
                match local.sockets.borrow_mut().ready(&mut ready) {
                    Ok(full) => check_sockets = full,
                    Err(error) => {
                        return tracing::error!(%error, "a shard cannot watch its sockets");
                    }
                }
                engine.serve_sockets(&ready, now_ms);
            }
            engine.serve_ready(SLOTS_PER_PASS, now_ms);
            // Readers of history send much at a time. Live events get the thread for as long.
            let sending = Instant::now();
            budget.record_serving(sending - serving, sending);
            while engine.work(now_ms) && !budget.rounds_are_done(Instant::now()) {}
            // Everything that the loop works at, asked at the end of the pass. A notification says
            // what came since it was asked for last, and nothing of what is left: one stands for
            // many batches, and the engine takes none before it has handed out those that it has.
            check_sockets || engine.has_more() || !inbox.is_empty()
        };
        local.return_sockets(&engine);
        if more {
            // Threads that wait for a processor, of this process and of others, would have this one's
            // at the kernel's next tick, some milliseconds away.
            thread::yield_now();
            let now = Instant::now();
            if budget.is_exhausted(now) {
                // Let accepts, requests and registrations run.
                yield_now().await;
                budget.record_other_work(now, Instant::now());
            }
            continue;
        }
        budget.reset();
        tokio::select! {
            () = inbox.filled() => {}
            () = wakes.ready() => {}
            () = poll_fn(|context| match local.sockets.borrow().are_ready(context) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }) => check_sockets = true,
            () = tokio::time::sleep_until(next_tick) => {}
        }
    }
}

/// Batches taken from the ring in one pass.
const BATCHES_PER_PASS: usize = 64;
/// Connections looked at in one pass because they asked for it.
const SLOTS_PER_PASS: usize = 256;
