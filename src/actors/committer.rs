//! The first stage of a commit, *prepare*: the one writer that gives events their order.
//!
//! The log's lock guards it. It reads no clock but for traced publishes, never waits, and shows
//! nothing to readers: later stages make its events durable, and then show them
//! (docs/adr/030-a-seam-for-storage.md).

use std::{mem, sync::Arc, time::Instant};

use crossbeam_queue::ArrayQueue;
use tokio::sync::OwnedSemaphorePermit;

use super::clock::Now;
use super::fan_out_trace::TracedEvents;
use super::submission::{AppendError, Committed, Queued, Reply, Submission};
use crate::{
    backend::ChannelEntry,
    core::{Idempotency, IdempotencyKey, PublishLimits, Remembered},
    disk::{Directory, LogWriter, StoredKey, WriteError},
    model::{Epoch, Event, EventKind, Position, Seq},
    telemetry::{PublishTrace, Step},
};

/// A commit between its stages: its events have their seqs, and no reader sees them yet.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// In the order of the log. Empty if every submission was refused.
    pub(super) events: Vec<(Arc<ChannelEntry>, Arc<Event>)>,
    /// To publishers, in the order of their submissions. Those that were refused are answered with
    /// the others, since a refusal may rest on an event that is not durable yet.
    pub(super) answers: Vec<Answer>,
    /// Permits of all submissions, refused ones too, until they are answered.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
    /// When it was prepared.
    pub(super) now: Now,
    /// For tracing, if a publish in it is traced.
    pub(super) trace: Option<Box<CommitTrace>>,
}

/// What tracing needs of a commit.
#[derive(Debug, Default)]
pub(super) struct CommitTrace {
    /// Traced publishes that have no answer here: a shared log may be shown before an append is
    /// answered.
    pub(super) publishes: Vec<TracedEvents>,
    /// When it was queued to be made durable.
    pub(super) queued: Option<Instant>,
}

/// The answer to one submission.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) outcome: Result<Committed, AppendError>,
    /// The key of what is appended.
    pub(super) key: Option<IdempotencyKey>,
    /// Of a publish that is traced.
    pub(super) trace: Option<Arc<PublishTrace>>,
}

impl Answer {
    /// The events that it appends, if they are of a publish that is traced.
    pub(super) fn traced_events(&self) -> Option<TracedEvents> {
        let (Some(trace), Ok(committed)) = (&self.trace, &self.outcome) else { return None };
        (!committed.replayed).then(|| TracedEvents {
            trace: Arc::clone(trace),
            first: committed.first.seq,
            last: committed.last.seq,
        })
    }
}

impl Prepared {
    fn hold(&mut self, permits: Vec<OwnedSemaphorePermit>) {
        if self.permits.is_empty() {
            self.permits = permits;
        } else {
            self.permits.extend(permits);
        }
    }

    /// Bytes of its events in a batch on disk, approximately.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(|(_, event)| event.bytes().len() + EVENT_BYTES).sum()
    }

    /// Adds its events and keys to a batch, except publishes that go only to transient channels: a
    /// publish is on disk whole, or not at all. Returns the number of events added.
    pub(super) fn write_to<D: Directory>(
        &self,
        writer: &mut LogWriter<D>,
        now_ms: u64,
    ) -> Result<usize, WriteError> {
        let (mut events, mut written) = (&self.events[..], 0);
        for Answer { outcome, key, .. } in &self.answers {
            let Ok(committed) = outcome else { continue };
            if committed.replayed {
                continue;
            }
            let (of_publish, rest) = events.split_at(committed.events);
            events = rest;
            if !of_publish.iter().any(is_durable) {
                for (entry, event) in of_publish {
                    entry.events().set_unwritten(event.seq);
                }
                continue;
            }
            writer.continue_at(committed.first.seq, now_ms)?;
            if let Some(key) = key {
                writer.add_key(key, committed.events);
            }
            for (_, event) in of_publish {
                writer.add(event);
            }
            written += committed.events;
        }
        Ok(written)
    }
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

/// What events take on disk beside their text, about: their channel's name and numbers.
const EVENT_BYTES: usize = 64;

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
    /// A writer that continues after `head`. `keys` are the idempotency keys of earlier publishes.
    pub(super) fn new(
        head: Position,
        limits: &PublishLimits,
        keys: impl IntoIterator<Item = StoredKey>,
    ) -> Self {
        let keep_ms = u64::from(limits.idempotency_s) * 1_000;
        let mut answered = Idempotency::new(limits.idempotency_keys_max as usize, keep_ms);
        for stored in keys {
            let at = |seq| Position { epoch: head.epoch, seq };
            let last = Seq(stored.first.0 + u64::from(stored.events) - 1);
            let committed = Committed {
                first: at(stored.first),
                last: at(last),
                events: stored.events as usize,
                replayed: false,
            };
            answered.remember(stored.key, committed, stored.time_ms, |_| true);
        }
        Self {
            epoch: head.epoch,
            last: head.seq,
            answered,
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

    /// Commits nothing more. What it has taken from the queue and not committed goes back to the
    /// caller.
    pub(super) fn stop(&mut self) -> Option<Queued> {
        self.stopped = true;
        self.deferred.take()
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

    /// Whether every submission is refused.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes what has gathered, up to a bound, for a storage that gives events their order itself.
    pub(super) fn take_gathered<'a>(
        &'a mut self,
        queue: &'a ArrayQueue<Queued>,
        budget: CommitBudget,
    ) -> impl Iterator<Item = Queued> + 'a {
        let mut cost_left = budget.cost_max;
        (0..budget.submissions_max).map_while(move |_| self.next(queue, &mut cost_left))
    }

    /// Takes what has gathered, up to a bound, and gives it its order. What readers see ends with
    /// `shown`. While the storage is full nothing is appended.
    pub(super) fn prepare(
        &mut self,
        queue: &ArrayQueue<Queued>,
        budget: CommitBudget,
        now: Now,
        shown: Seq,
        is_full: bool,
    ) -> Prepared {
        #[cfg(test)]
        assert!(!self.panics, "planted fault in a commit");
        let mut prepared = Prepared { now, ..Prepared::default() };
        let mut cost_left = budget.cost_max;
        for _ in 0..budget.submissions_max {
            let Some(Queued { mut submission, reply }) = self.next(queue, &mut cost_left) else {
                break;
            };
            let trace = submission.trace.take().map(|trace| (trace, Instant::now()));
            let mut answer = match self.refuse_or_replay(&submission, now.ms, shown, is_full) {
                Some(outcome) => {
                    prepared.hold(submission.permits);
                    Answer { reply, outcome, key: None, trace: None }
                }
                None => {
                    let key = submission.key;
                    let committed = self.sequence(submission, &mut prepared, shown);
                    Answer { reply, outcome: Ok(committed), key, trace: None }
                }
            };
            if let Some((trace, began)) = trace {
                trace.step(Step::Prepare, (began, Instant::now()), Vec::new(), None);
                answer.trace = Some(trace);
            }
            prepared.answers.push(answer);
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
        shown: Seq,
        is_full: bool,
    ) -> Option<Result<Committed, AppendError>> {
        if self.closed {
            return Some(Err(AppendError::LogClosed));
        }
        if let Some(key) = &submission.key {
            match self.answered.look_up(key, now_ms, is_shown(shown)) {
                Remembered::No => {}
                // The earlier publish may not be durable yet. This answer takes the same way, after
                // it.
                Remembered::Same(answer) => {
                    return Some(Ok(Committed { replayed: true, ..answer }));
                }
                Remembered::Other => return Some(Err(AppendError::KeyReused)),
            }
        }
        // After the key: a retry of what is in the log has its answer all the same.
        if is_full {
            return Some(Err(AppendError::StorageFull));
        }
        let closed = submission.events.iter().find(|(entry, _)| entry.events().is_closing())?;
        Some(Err(AppendError::Closed(closed.0.name().clone())))
    }

    /// Gives the events of a submission their seqs and ids.
    fn sequence(
        &mut self,
        submission: Submission,
        prepared: &mut Prepared,
        shown: Seq,
    ) -> Committed {
        let Submission { events, kind, key, permits, trace: _ } = submission;
        let committed = Committed {
            first: Position { epoch: self.epoch, seq: self.last.next() },
            last: Position { epoch: self.epoch, seq: Seq(self.last.0 + events.len() as u64) },
            events: events.len(),
            replayed: false,
        };
        for (entry, draft) in events {
            self.last = self.last.next();
            if kind == EventKind::Closed {
                entry.events().begin_close();
            }
            let event = Arc::new(Event {
                seq: self.last,
                epoch: self.epoch,
                time_ms: prepared.now.wall_ms,
                accepted_ms: prepared.now.ms,
                channel: entry.name().clone(),
                kind,
                frame: draft.finish(Position { epoch: self.epoch, seq: self.last }),
            });
            prepared.events.push((entry, event));
        }
        if let Some(key) = key {
            let now_ms = prepared.now.ms;
            self.answered.remember(key, committed.clone(), now_ms, is_shown(shown));
        }
        prepared.hold(permits);
        committed
    }
}

/// Whether an event goes to a log on disk. A closed channel stays closed over a restart.
fn is_durable((entry, event): &(Arc<ChannelEntry>, Arc<Event>)) -> bool {
    entry.is_durable() || event.kind == EventKind::Closed
}

/// Whether the events of an answer are shown. Until then its key is not evicted: a retry could
/// publish them again while they are still written.
fn is_shown(shown: Seq) -> impl Fn(&Committed) -> bool {
    move |committed| committed.last.seq <= shown
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
