//! The shards as others see them: what they can be asked, by number.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use ractor::{ActorRef, MessagingErr};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    body::EventBody,
    connection_report::{ConnectionFilter, ConnectionMatches, ConnectionQuery, ConnectionReport},
    lease::{Renew, Renewal},
    messages::{EndProgress, EndQuery, ShardMsg, StreamTransfer},
    subscriber::Subscriber,
};
use crate::model::PollReply;

/// A handle to all shards of a hub, or to the successors of those that are restarted.
#[derive(Debug)]
pub(crate) struct ShardsHandle {
    shards: Mutex<Vec<Option<ActorRef<ShardMsg>>>>,
    count: usize,
    /// Which shard is sent the next connection that has none yet.
    next: AtomicU32,
    /// Pieces of reports that were asked for.
    #[cfg(test)]
    pub(crate) explained: AtomicU32,
}

impl ShardsHandle {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            shards: Mutex::new(vec![None; count]),
            count,
            next: AtomicU32::new(0),
            #[cfg(test)]
            explained: AtomicU32::new(0),
        }
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// A shard has started, or has failed.
    pub(super) fn set(&self, index: usize, shard: Option<ActorRef<ShardMsg>>) {
        self.shards.lock()[index] = shard;
    }

    /// A shard, if there is one of that number and it runs.
    pub(super) fn find(&self, index: usize) -> Option<ActorRef<ShardMsg>> {
        self.shards.lock().get(index)?.clone()
    }

    /// Has some shard serve a stream as a body. `None` if no shard runs.
    pub(crate) async fn attach(&self, subscriber: Subscriber) -> Option<EventBody> {
        let (reply, body) = oneshot::channel();
        self.send_to_some(ShardMsg::Attach(Box::new(subscriber), reply)).then_some(())?;
        body.await.ok()
    }

    /// Lets a poll wait on some shard for its answer. `None` if no shard runs, or it ends.
    pub(crate) async fn wait_for_reply(&self, subscriber: Subscriber) -> Option<PollReply> {
        let (sender, reply) = oneshot::channel();
        self.send_to_some(ShardMsg::Wait(Box::new(subscriber), sender)).then_some(())?;
        reply.await.ok()
    }

    /// Sends a message to the next shard that runs; false if no shard runs.
    fn send_to_some(&self, mut msg: ShardMsg) -> bool {
        let count = self.count as u32;
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for offset in 0..count {
            let index = (first.wrapping_add(offset) % count) as usize;
            let Some(shard) = self.find(index) else { continue };
            match shard.cast(msg) {
                Ok(()) => return true,
                Err(MessagingErr::SendErr(back)) => msg = back,
                Err(_) => break,
            }
        }
        false
    }

    /// Has a shard adopt a stream; gives it back if that shard does not run.
    pub(super) fn adopt(&self, shard: usize, stream: StreamTransfer) -> Option<StreamTransfer> {
        let Some(shard) = self.find(shard) else { return Some(stream) };
        match shard.cast(ShardMsg::Adopt(Box::new(stream))) {
            Err(MessagingErr::SendErr(ShardMsg::Adopt(stream))) => Some(*stream),
            _ => None,
        }
    }

    /// Hands a fresh token to a connection; `None` if its shard does not answer in time.
    pub(crate) async fn renew(&self, shard: usize, renew: Renew) -> Option<Renewal> {
        self.ask(shard, Instant::now() + ANSWER_TIME_MAX, |reply| ShardMsg::Renew(renew, reply))
            .await
    }

    /// Ends a connection of a shard, if it is among the slots that are looked at; `None` if the
    /// shard does not answer in time.
    pub(crate) async fn end(&self, shard: usize, query: EndQuery) -> Option<EndProgress> {
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        self.ask(shard, deadline, |reply| ShardMsg::End(query, reply)).await
    }

    /// Explains connections of a shard; `None` if it does not answer in time.
    pub(crate) async fn explain(
        &self,
        shard: usize,
        query: ConnectionQuery,
        deadline: Instant,
    ) -> Option<ConnectionMatches> {
        #[cfg(test)]
        self.explained.fetch_add(1, Ordering::Relaxed);
        self.ask(shard, deadline, |reply| ShardMsg::Explain(query, reply)).await
    }

    /// Explains connections of a shard that ended lately; `None` if it does not answer in time.
    pub(crate) async fn explain_closed(
        &self,
        shard: usize,
        filter: ConnectionFilter,
        deadline: Instant,
    ) -> Option<Vec<ConnectionReport>> {
        self.ask(shard, deadline, |reply| ShardMsg::ExplainClosed(filter, reply)).await
    }

    /// Ends all connections within the window; completes when none is left.
    pub(crate) async fn drain(&self, window: Duration) {
        let shards = self.shards.lock().clone();
        let mut drained = Vec::new();
        for shard in shards.into_iter().flatten() {
            let (sender, receiver) = oneshot::channel();
            if shard.cast(ShardMsg::Drain(window, sender)).is_ok() {
                drained.push(receiver);
            }
        }
        for receiver in drained {
            // A shard that fails has no connections left either.
            let _ = receiver.await;
        }
    }

    /// Ends all connections of all shards; completes when that is done.
    pub(crate) async fn end_all(&self) {
        let shards = self.shards.lock().clone();
        let mut ended = Vec::new();
        for shard in shards.into_iter().flatten() {
            let (sender, receiver) = oneshot::channel();
            if shard.cast(ShardMsg::EndAll(sender)).is_ok() {
                ended.push(receiver);
            }
        }
        for receiver in ended {
            // The sender is dropped, here or by a shard that fails.
            let _ = receiver.await;
        }
    }

    async fn ask<T>(
        &self,
        shard: usize,
        deadline: Instant,
        msg: impl FnOnce(oneshot::Sender<T>) -> ShardMsg,
    ) -> Option<T> {
        let shard = self.find(shard)?;
        let (reply, answer) = oneshot::channel();
        shard.cast(msg(reply)).ok()?;
        timeout_at(deadline.min(Instant::now() + ANSWER_TIME_MAX), answer).await.ok()?.ok()
    }
}

/// How long a shard has for an answer. One that serves its connections answers within
/// milliseconds.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
