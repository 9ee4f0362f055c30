//! The handle of a shard for tasks on its thread, with which they hand off connections.

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

/// A handle of a shard for tasks on its thread. It does not keep the shard alive.
#[derive(Clone)]
pub struct LocalShard {
    index: usize,
    pub(super) context: Arc<ShardContext>,
    engine: Weak<RefCell<Engine>>,
    pub(super) sockets: Rc<RefCell<Sockets>>,
    returns: Rc<RefCell<Option<Returns>>>,
    alive: watch::Receiver<()>,
}

/// The callback for sockets of answered polls.
type Returns = Rc<dyn Fn(ReturnedSocket)>;

impl LocalShard {
    /// A handle of the shard with this engine. The shard has stopped when the sender of `alive` is
    /// dropped.
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

    /// Drops the callback, to break a reference cycle: it holds the front, which holds this handle.
    pub(super) fn disconnect_front(&self) {
        drop(self.returns.take());
    }

    /// The index of the shard.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Sets the callback for sockets of answered polls.
    pub fn on_returned(&self, returns: impl Fn(ReturnedSocket) + 'static) {
        *self.returns.borrow_mut() = Some(Rc::new(returns));
    }

    /// Completes when the shard has stopped; the tasks of its clients end then.
    pub async fn gone(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Hands a socket off; a stream may be moved to another shard. `read_ahead` are bytes already
    /// read from the socket, `head` is written before the stream.
    pub fn attach(
        &self,
        subscriber: Subscriber,
        io: impl Into<Socket>,
        read_ahead: &[u8],
        head: Bytes,
        ticket: Option<PollTicket>,
    ) {
        match (subscriber.shape.transport(), io.into()) {
            (Transport::Poll, Socket::Plain(io)) => match PollSocket::new(io, read_ahead) {
                Ok(peer) => self.attach_peer(subscriber, Box::new(peer), head, ticket),
                Err(error) => log_register_failure(&error),
            },
            (Transport::Poll, Socket::Tls(io)) => {
                let peer = Box::new(TlsPeer::poll(io, read_ahead));
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

    /// Registers a stream on this shard.
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

    /// Hands off any other kind of peer: a custom transport, or one in memory for load tests. The
    /// peer is used on this thread only and must not call the shard. If the shard has stopped, the
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

    /// Hands off a stream that is read as an HTTP body. If the shard has stopped, the body has
    /// ended.
    pub fn attach_body(&self, subscriber: Subscriber) -> EventBody {
        let (peer, body) = BodyPeer::pair();
        self.attach_peer(subscriber, Box::new(peer), Bytes::new(), None);
        body
    }

    /// Hands off a poll whose answer is received as a value. Dropping the receiver ends the poll.
    /// If the shard has stopped, the receiver gets an error.
    pub fn attach_poll(&self, subscriber: Subscriber) -> oneshot::Receiver<PollReply> {
        let (sender, reply) = oneshot::channel();
        let peer = Box::new(ReplyPeer::new(sender));
        self.attach_peer(subscriber, peer, Bytes::new(), None);
        reply
    }

    /// Records in the lease which shard has the connection.
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
