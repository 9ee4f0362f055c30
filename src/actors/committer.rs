//! The log itself: the single writer that gives events their order.
//!
//! It lies under a lock, and whoever finds it free commits: a publisher its own events and what has
//! gathered, or the log's actor. So a publish needs no other thread to be woken and waited for
//! (docs/adr/016-publishers-commit.md). What is done under the lock is bounded, and never waits.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    batch::{Batch, Run},
    channels::ChannelsMsg,
    log::LogMsg,
    shared::Shared,
};
use crate::{
    backend::{ChannelEntry, ChannelId},
    core::{Idempotency, IdempotencyKey, PublishLimits, Remembered},
    model::{ChannelName, Draft, Event, EventKind, Position, Seq},
    telemetry::Metrics,
};

/// What a publisher hands in: accepted whole or not at all.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) events: Vec<(Arc<ChannelEntry>, Draft)>,
    pub(crate) kind: EventKind,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) permits: Vec<OwnedSemaphorePermit>,
    pub(crate) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) events: usize,
    pub(crate) replayed: bool,
}

/// Why a submission was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitError {
    /// The channel takes no more events.
    Closed(ChannelName),
    /// Another body was published under the key.
    KeyReused,
}

/// The log's state.
#[derive(Debug)]
pub(crate) struct Committer {
    last: Seq,
    answered: Idempotency<Committed>,
    /// Nothing is committed any more.
    stopped: bool,
    #[cfg(test)]
    panics: bool,
}

/// How much of what has gathered one commit takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    submissions_max: usize,
    events_max: usize,
}

impl Share {
    /// The actor's: it has nothing else to do.
    pub(crate) const ALL: Self = Self { submissions_max: 256, events_max: usize::MAX };
    /// A publisher's: it is on a shard's thread, whose connections wait meanwhile.
    pub(crate) const SMALL: Self = Self { submissions_max: 64, events_max: 128 };
}

/// A submission in the log's queue. When this is dropped it is committed, with all that has gathered
/// by then, or the log's actor is woken to do so.
#[derive(Debug)]
#[must_use]
pub(crate) struct HandedIn<'a> {
    shared: &'a Shared,
    is_large: bool,
}

impl Shared {
    /// Hands a submission to the log. Gives it back if there is no room, which the permits rule out.
    pub(crate) fn hand_in(&self, submission: Submission) -> Result<HandedIn<'_>, Submission> {
        let is_large = submission.events.len() > Share::SMALL.events_max;
        self.submissions.push(submission)?;
        Ok(HandedIn { shared: self, is_large })
    }

    /// Commits a small share of what has gathered, if nobody else commits.
    fn commit_here(&self) {
        let Some(mut committer) = self.committer.try_lock() else { return };
        let commit = AssertUnwindSafe(|| committer.commit(self, Share::SMALL));
        if catch_unwind(commit).is_err() {
            drop(committer);
            if let Some(log) = &self.refs.lock().log {
                let _ = log.cast(LogMsg::Broken);
            }
        }
    }
}

impl Drop for HandedIn<'_> {
    fn drop(&mut self) {
        if !self.is_large && !self.shared.submissions.is_empty() {
            self.shared.commit_here();
        }
        // What is left, another has the log for now or it is too much: it is the actor's.
        if !self.shared.submissions.is_empty() {
            self.shared.wake_log();
        }
    }
}

impl Committer {
    pub(crate) fn new(last: Seq, limits: &PublishLimits) -> Self {
        let keep_ms = u64::from(limits.idempotency_s) * 1_000;
        Self {
            last,
            answered: Idempotency::new(limits.idempotency_keys_max as usize, keep_ms),
            stopped: false,
            #[cfg(test)]
            panics: false,
        }
    }

    /// Commits nothing more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Commits what has been handed in, up to a bound, as one batch. If that panics, on whatever
    /// thread, nothing is committed any more.
    pub(crate) fn commit(&mut self, shared: &Shared, share: Share) {
        if !mem::replace(&mut self.stopped, true) {
            self.commit_share(shared, share);
            self.stopped = false;
        }
    }

    fn commit_share(&mut self, shared: &Shared, share: Share) {
        #[cfg(test)]
        assert!(!self.panics, "planted fault in a commit");
        let now_ms = shared.clock.now_ms();
        let first = self.last.next();
        let mut runs: Vec<Run> = Vec::new();
        let mut by_channel: FxHashMap<ChannelId, usize> = FxHashMap::default();
        let mut permits = Vec::new();
        let mut answers = Vec::new();
        let mut closed = Vec::new();
        let mut taken = 0;
        for _ in 0..share.submissions_max {
            if taken >= share.events_max {
                break;
            }
            let Some(submission) = shared.submissions.pop() else { break };
            taken += submission.events.len();
            if let Some(answer) = self.refuse_or_replay(shared, &submission, now_ms) {
                let _ = submission.reply.send(answer);
                continue;
            }
            let Submission { events, kind, key, permits: held, reply } = submission;
            let mut committed = Committed {
                first: shared.backend.position(self.last.next()),
                last: shared.backend.position(self.last),
                events: events.len(),
                replayed: false,
            };
            for (entry, draft) in events {
                let event = self.append(shared, &entry, draft, kind, now_ms);
                committed.last = event.position();
                if kind == EventKind::Closed {
                    closed.push(Arc::clone(&entry));
                }
                let run = *by_channel.entry(entry.id()).or_insert_with(|| {
                    runs.push(Run { entry, events: Vec::new() });
                    runs.len() - 1
                });
                runs[run].events.push(event);
            }
            if let Some(key) = key {
                self.answered.remember(key, committed.clone(), now_ms);
            }
            permits.extend(held);
            answers.push((reply, committed));
        }
        if runs.is_empty() {
            return;
        }
        shared.backend.commit(self.last);
        // The publishers first: their answer does not wait for the fan-out.
        for (reply, committed) in answers {
            let _ = reply.send(Ok(committed));
        }
        let events: usize = runs.iter().map(|run| run.events.len()).sum();
        let bytes: usize = runs.iter().map(Run::bytes).sum();
        shared.metrics.events_published.inc_by(events as u64);
        shared.metrics.bytes_published.inc_by(bytes as u64);
        for run in &runs {
            run.entry.touch(now_ms);
            shared.attend(&run.entry);
        }
        let batch = Arc::new(Batch::new(first, self.last, runs, permits));
        shared.deliver(&batch);
        for entry in closed {
            if let Some(channels) = &shared.refs.lock().channels {
                let _ = channels.cast(ChannelsMsg::Closed(entry));
            }
        }
    }

    fn refuse_or_replay(
        &mut self,
        shared: &Shared,
        submission: &Submission,
        now_ms: u64,
    ) -> Option<Result<Committed, CommitError>> {
        if let Some(key) = &submission.key {
            match self.answered.look_up(key, now_ms) {
                Remembered::No => {}
                Remembered::Same(answer) => {
                    shared.metrics.publishes_replayed.inc();
                    return Some(Ok(Committed { replayed: true, ..answer }));
                }
                Remembered::Other => return Some(Err(CommitError::KeyReused)),
            }
        }
        let closed = submission.events.iter().find(|(entry, _)| entry.is_closed())?;
        Metrics::count(&shared.metrics.publishes_refused, "closed");
        Some(Err(CommitError::Closed(closed.0.name().clone())))
    }

    fn append(
        &mut self,
        shared: &Shared,
        entry: &Arc<ChannelEntry>,
        draft: Draft,
        kind: EventKind,
        time_ms: u64,
    ) -> Arc<Event> {
        self.last = self.last.next();
        let position = shared.backend.position(self.last);
        let event = Arc::new(Event {
            seq: self.last,
            epoch: position.epoch,
            time_ms,
            channel: entry.name().clone(),
            kind,
            frame: draft.finish(position),
        });
        shared.backend.append(entry, &event);
        event
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{
        hub::{Hub, Publication, PublishError},
        model::NewEvent,
    };

    fn publication(data: &str) -> Publication {
        let name = ChannelName::parse("a").expect("a name");
        Publication::one(name, NewEvent::message(data))
    }

    #[tokio::test]
    async fn a_commit_that_panics_on_a_publishers_thread_ends_the_hub_and_nothing_is_committed_after()
     {
        let hub = Hub::builder().shards(1).start().await.expect("it starts");
        hub.publish(publication("1")).await.expect("published");
        hub.shared().committer.lock().panics = true;
        let answer = hub.publish(publication("2")).await;
        assert_eq!(answer, Err(PublishError::GoingDown));
        let why = tokio::time::timeout(std::time::Duration::from_secs(10), hub.failed()).await;
        assert!(why.expect("it fails").contains("the log failed"));
        hub.shared().committer.lock().panics = false;
        let answer = hub.publish(publication("3")).await;
        assert_eq!(answer, Err(PublishError::GoingDown));
        assert_eq!(hub.shared().backend.head(), Seq(1));
    }

    #[tokio::test]
    async fn a_commit_that_panics_on_any_thread_is_the_last() {
        let hub = Hub::builder().shards(1).start().await.expect("it starts");
        let mut committer = hub.shared().committer.lock();
        committer.commit(hub.shared(), Share::ALL);
        assert!(!committer.stopped);
        committer.panics = true;
        let commit = AssertUnwindSafe(|| committer.commit(hub.shared(), Share::ALL));
        assert!(catch_unwind(commit).is_err());
        assert!(committer.stopped);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_too_much_for_a_publisher_or_comes_while_another_commits_is_the_actors() {
        let hub = Hub::builder().shards(1).start().await.expect("it starts");
        for events in [Share::SMALL.events_max, Share::SMALL.events_max + 1] {
            let mut large = publication("0");
            large.events = vec![large.events[0].clone(); events];
            assert_eq!(hub.publish(large).await.expect("published").events, events);
        }
        let shared = Arc::clone(hub.shared());
        let (locked, wait_locked) = mpsc::channel();
        let (free, wait_free) = mpsc::channel::<()>();
        let other = Arc::clone(&shared);
        let other = std::thread::spawn(move || {
            let _held = other.committer.lock();
            locked.send(()).expect("somebody waits");
            wait_free.recv().expect("it is let go");
        });
        wait_locked.recv().expect("it is held");
        let publishing = tokio::spawn(async move { hub.publish(publication("1")).await });
        while shared.submissions.is_empty() {
            tokio::task::yield_now().await;
        }
        free.send(()).expect("it waits");
        publishing.await.expect("it ends").expect("published");
        other.join().expect("it ends");
    }
}
