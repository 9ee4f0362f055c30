//! A shard as the tasks on its thread see it: they hand connections to it.

use std::{
    cell::RefCell,
    io,
    rc::{Rc, Weak},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{
    engine::{Engine, ReturnedSocket},
    sockets::Sockets,
};
use crate::{
    actors::{
        body::{BodyPeer, EventBody},
        messages::StreamTransfer,
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

/// A shard as seen by the tasks on its thread. It does not keep the shard alive.
#[derive(Clone)]
pub struct LocalShard {
    index: usize,
    pub(super) context: Arc<ShardContext>,
    engine: Weak<RefCell<Engine>>,
    pub(super) sockets: Rc<RefCell<Sockets>>,
    returns: Rc<RefCell<Option<Returns>>>,
    alive: watch::Receiver<()>,
}

/// Takes the sockets of answered polls.
type Returns = Rc<dyn Fn(ReturnedSocket)>;

impl LocalShard {
    /// The shard of an engine. It is gone when `alive` has no sender.
    pub(super) fn new(
        index: usize,
        context: Arc<ShardContext>,
        engine: &Rc<RefCell<Engine>>,
        alive: watch::Receiver<()>,
    ) -> io::Result<Self> {
        Ok(Self {
            index,
            context,
            engine: Rc::downgrade(engine),
            sockets: Rc::new(RefCell::new(Sockets::new()?)),
            returns: Rc::default(),
            alive,
        })
    }

    /// Drops what takes the sockets of answered polls: it holds the front, which holds this.
    pub(super) fn disconnect_front(&self) {
        drop(self.returns.take());
    }

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
    pub(super) fn adopt(&self, stream: StreamTransfer) {
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

    pub(super) fn return_sockets(&self, engine: &RefCell<Engine>) {
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

fn log_register_failure(error: &io::Error) {
    tracing::debug!(%error, "a socket cannot be registered with the poller; it is closed");
}
