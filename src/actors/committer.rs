//! The log itself: the single writer that gives events their order.
//!
//! It lies under a lock. Whichever task finds it free commits: a publisher its own events and what
//! has gathered, or the log's actor. So a publish needs no other thread to be woken and waited for
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
    hub_state::HubState,
    log::LogMsg,
};
use crate::{
    backend::{ChannelEntry, ChannelId},
    core::{Idempotency, IdempotencyKey, PublishLimits, Remembered},
    model::{ChannelName, Draft, Event, EventKind, Position, Seq},
    telemetry::Metrics,
};

/// What a publisher submits: accepted whole or not at all.
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

impl Submission {
    fn cost(&self) -> usize {
        self.events.iter().map(|(_, draft)| cost(draft)).sum()
    }
}

/// What an event costs its publisher and the log: one permit, and one more per KiB.
pub(crate) fn cost(draft: &Draft) -> usize {
    1 + draft.len() / 1024
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
    /// The next in order, which was over the budget of the commit that came to it.
    deferred: Option<Submission>,
    /// Nothing is committed any more.
    stopped: bool,
    #[cfg(test)]
    panics: bool,
}

/// How much of what has gathered one commit takes at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitBudget {
    submissions_max: usize,
    pub(crate) cost_max: usize,
}

impl CommitBudget {
    /// The actor's: it has nothing else to do.
    pub(crate) const ALL: Self = Self { submissions_max: 256, cost_max: usize::MAX };
    /// A publisher's: it is on a shard's thread, whose connections wait meanwhile.
    pub(crate) const INLINE: Self = Self { submissions_max: 64, cost_max: 128 };
}

/// A submission in the log's queue. When this is dropped it is committed, with all that has
/// gathered by then, or the log's actor is woken to do so.
#[derive(Debug)]
#[must_use]
pub(crate) struct QueuedSubmission<'a> {
    shared: &'a HubState,
    is_large: bool,
}

impl HubState {
    /// Queues a submission for the log. Gives it back if there is no room, which the permits rule
    /// out.
    pub(crate) fn enqueue(
        &self,
        submission: Submission,
    ) -> Result<QueuedSubmission<'_>, Submission> {
        let is_large = submission.cost() > CommitBudget::INLINE.cost_max;
        self.submissions.push(submission)?;
        Ok(QueuedSubmission { shared: self, is_large })
    }

    /// Commits what has gathered within a small budget, unless a commit is under way. Whether it
    /// came to something that is over the budget.
    fn commit_inline(&self) -> bool {
        let Some(mut committer) = self.committer.try_lock() else { return false };
        let commit = AssertUnwindSafe(|| committer.commit(self, CommitBudget::INLINE));
        if catch_unwind(commit).is_err() {
            drop(committer);
            if let Some(log) = &self.refs.lock().log {
                let _ = log.cast(LogMsg::Broken);
            }
            return false;
        }
        committer.deferred.is_some()
    }
}

impl Drop for QueuedSubmission<'_> {
    fn drop(&mut self) {
        let is_over_budget =
            !self.is_large && !self.shared.submissions.is_empty() && self.shared.commit_inline();
        // What is left goes to the actor: it is over the budget, or another commit is under way.
        if is_over_budget || !self.shared.submissions.is_empty() {
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
            deferred: None,
            stopped: false,
            #[cfg(test)]
            panics: false,
        }
    }

    /// Commits nothing more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.deferred = None;
    }

    /// Commits what has been handed in, up to a bound, as one batch. If that panics, on whatever
    /// thread, nothing is committed any more.
    pub(crate) fn commit(&mut self, shared: &HubState, budget: CommitBudget) {
        if !mem::replace(&mut self.stopped, true) {
            self.commit_within(shared, budget);
            self.stopped = false;
        }
    }

    fn commit_within(&mut self, shared: &HubState, budget: CommitBudget) {
        #[cfg(test)]
        assert!(!self.panics, "planted fault in a commit");
        let now_ms = shared.clock.now_ms();
        let first = self.last.next();
        let mut runs: Vec<Run> = Vec::new();
        let mut by_channel: FxHashMap<ChannelId, usize> = FxHashMap::default();
        let mut permits = Vec::new();
        let mut answers = Vec::new();
        let mut closed = Vec::new();
        let mut cost_left = budget.cost_max;
        for _ in 0..budget.submissions_max {
            let Some(submission) = self.next(shared, &mut cost_left) else { break };
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
            shared.ensure_actor(&run.entry);
        }
        let batch = Arc::new(Batch::new(first, self.last, runs, permits));
        shared.deliver(&batch);
        for entry in closed {
            if let Some(channels) = &shared.refs.lock().channels {
                let _ = channels.cast(ChannelsMsg::Closed(entry));
            }
        }
    }

    /// The next submission in order, unless it costs more than is left of a budget.
    fn next(&mut self, shared: &HubState, cost_left: &mut usize) -> Option<Submission> {
        let next = self.deferred.take().or_else(|| shared.submissions.pop())?;
        match cost_left.checked_sub(next.cost()) {
            Some(left) => {
                *cost_left = left;
                Some(next)
            }
            None => {
                self.deferred = Some(next);
                None
            }
        }
    }

    fn refuse_or_replay(
        &mut self,
        shared: &HubState,
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
        shared: &HubState,
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

/// What tests look at, and break.
#[cfg(test)]
impl Committer {
    pub(crate) fn plant_panic(&mut self, is_planted: bool) {
        self.panics = is_planted;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred.is_some()
    }
}
