//! The peer of a waiting poll whose answer is taken as a value: over HTTP/2, and by servers that
//! embed the hub.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::peer::{Input, Peer, SlotWaker};
use crate::model::PollReply;

/// Sends the answer to the task that waits for it. Dropping the receiver ends the connection.
#[derive(Debug)]
pub(crate) struct ReplyPeer(Option<oneshot::Sender<PollReply>>);

impl ReplyPeer {
    /// A peer that answers by `reply`.
    pub(crate) fn new(reply: oneshot::Sender<PollReply>) -> Self {
        Self(Some(reply))
    }
}

impl Peer for ReplyPeer {
    fn try_write(&mut self, _: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn poll_input(&mut self, waker: &Arc<SlotWaker>) -> Input {
        let Some(reply) = &mut self.0 else { return Input::Quiet };
        let waker = Waker::from(Arc::clone(waker));
        match reply.poll_closed(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => Input::Closed,
            Poll::Pending => Input::Quiet,
        }
    }

    fn answer(&mut self, reply: PollReply) {
        if let Some(sender) = self.0.take() {
            // A receiver that is gone needs no answer.
            let _ = sender.send(reply);
        }
    }
}
