//! The first stage of a commit, *prepare*: the one writer that gives events their order.
//!
//! It lies under the log's lock. It reads no clock, waits for nothing, and shows nothing to readers:
//! what it has prepared is made durable and then shown (docs/adr/030-a-seam-for-storage.md).

use std::{mem, sync::Arc};

use crossbeam_queue::ArrayQueue;
use tokio::sync::OwnedSemaphorePermit;

use super::submission::{AppendError, Committed, Queued, Reply, Submission};
use crate::{
    backend::ChannelEntry,
    core::{Idempotency, PublishLimits, Remembered},
    model::{Epoch, Event, EventKind, Position, Seq},
};

/// A commit between its stages: its events have their seqs, and no reader sees them yet.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// In the order of the log. Empty if every submission was refused.
    pub(super) events: Vec<(Arc<ChannelEntry>, Arc<Event>)>,
    /// To publishers, in the order of their submissions. Those that were refused are answered with
    /// the others, since a refusal may rest on an event that is not durable yet.
    pub(super) answers: Vec<(Reply, Result<Committed, AppendError>)>,
    pub(super) permits: Vec<OwnedSemaphorePermit>,
    pub(super) time_ms: u64,
}

/// The state of the writer.
#[derive(Debug)]
pub(crate) struct Committer {
    epoch: Epoch,
    /// The newest seq that is given out; the head that readers see is at most this.
    last: Seq,
    answered: Idempotency<Committed>,
    /// The next in order, which was over the budget of the commit that came to it.
    deferred: Option<Queued>,
    /// Every submission is refused.
    closed: bool,
    /// Nothing is committed any more.
    stopped: bool,
    #[cfg(test)]
    panics: bool,
}

/// How much of the queue one commit takes at most.
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

impl Committer {
    pub(super) fn new(head: Position, limits: &PublishLimits) -> Self {
        let keep_ms = u64::from(limits.idempotency_s) * 1_000;
        Self {
            epoch: head.epoch,
            last: head.seq,
            answered: Idempotency::new(limits.idempotency_keys_max as usize, keep_ms),
            deferred: None,
            closed: false,
            stopped: false,
            #[cfg(test)]
            panics: false,
        }
    }

    /// Refuses every submission from now on.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Commits nothing more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.deferred = None;
    }

    /// Runs a commit. If that panics, on whatever thread, nothing is committed any more.
    pub(super) fn run(&mut self, commit: impl FnOnce(&mut Self)) {
        if !mem::replace(&mut self.stopped, true) {
            commit(self);
            self.stopped = false;
        }
    }

    /// Whether the next submission in order was over the budget of the last commit.
    pub(crate) fn has_deferred(&self) -> bool {
        self.deferred.is_some()
    }

    /// Takes what has gathered, up to a bound, and gives it its order.
    pub(super) fn prepare(
        &mut self,
        queue: &ArrayQueue<Queued>,
        budget: CommitBudget,
        time_ms: u64,
    ) -> Prepared {
        #[cfg(test)]
        assert!(!self.panics, "planted fault in a commit");
        let mut prepared = Prepared { time_ms, ..Prepared::default() };
        let mut cost_left = budget.cost_max;
        for _ in 0..budget.submissions_max {
            let Some(Queued { submission, reply }) = self.next(queue, &mut cost_left) else {
                break;
            };
            let answer = match self.refuse_or_replay(&submission, time_ms) {
                Some(answer) => answer,
                None => Ok(self.sequence(submission, &mut prepared)),
            };
            prepared.answers.push((reply, answer));
        }
        prepared
    }

    /// The next submission in order, unless it costs more than is left of a budget.
    fn next(&mut self, queue: &ArrayQueue<Queued>, cost_left: &mut usize) -> Option<Queued> {
        let next = self.deferred.take().or_else(|| queue.pop())?;
        match cost_left.checked_sub(next.submission.cost()) {
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

    /// The answer to a submission that appends nothing.
    fn refuse_or_replay(
        &mut self,
        submission: &Submission,
        now_ms: u64,
    ) -> Option<Result<Committed, AppendError>> {
        if self.closed {
            return Some(Err(AppendError::LogClosed));
        }
        if let Some(key) = &submission.key {
            match self.answered.look_up(key, now_ms) {
                Remembered::No => {}
                // It may not be durable yet. This answer goes the same way, behind it.
                Remembered::Same(answer) => {
                    return Some(Ok(Committed { replayed: true, ..answer }));
                }
                Remembered::Other => return Some(Err(AppendError::KeyReused)),
            }
        }
        let closed = submission.events.iter().find(|(entry, _)| entry.is_closing())?;
        Some(Err(AppendError::Closed(closed.0.name().clone())))
    }

    /// Gives the events of a submission their seqs and ids.
    fn sequence(&mut self, submission: Submission, prepared: &mut Prepared) -> Committed {
        let Submission { events, kind, key, permits } = submission;
        let committed = Committed {
            first: Position { epoch: self.epoch, seq: self.last.next() },
            last: Position { epoch: self.epoch, seq: Seq(self.last.0 + events.len() as u64) },
            events: events.len(),
            replayed: false,
        };
        for (entry, draft) in events {
            self.last = self.last.next();
            if kind == EventKind::Closed {
                entry.begin_close();
            }
            let event = Arc::new(Event {
                seq: self.last,
                epoch: self.epoch,
                time_ms: prepared.time_ms,
                channel: entry.name().clone(),
                kind,
                frame: draft.finish(Position { epoch: self.epoch, seq: self.last }),
            });
            prepared.events.push((entry, event));
        }
        if let Some(key) = key {
            self.answered.remember(key, committed.clone(), prepared.time_ms);
        }
        if prepared.permits.is_empty() {
            prepared.permits = permits;
        } else {
            prepared.permits.extend(permits);
        }
        committed
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
}
