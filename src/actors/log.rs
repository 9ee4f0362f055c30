//! The log: publishers append to it, and it gives their events one order.
//!
//! Its writer is behind a lock. Whichever task finds it free commits: a publisher its own events
//! and what has gathered, or the log's actor. So a publish need not wake another thread and wait
//! for it (docs/adr/016-publishers-commit.md). A commit has three stages: prepare ([`Committer`]),
//! make durable ([`DurableStage`]) and show ([`ShowStage`]). What is done under the lock is
//! bounded, and never waits.

use std::{
    future::poll_fn,
    io, iter, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    task::Poll,
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::{
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    clock::Clock,
    committer::{CommitBudget, Committer, Prepared},
    disk_stage::LogAccess,
    durable_stage::DurableStage,
    messages::LogMsg,
    shared_stage::SharedStage,
    show_stage::ShowStage,
    submission::{AppendError, Committed, Queued, Reply, Submission},
    wake_flag::WakeFlag,
};
use crate::{
    backend::EventStore,
    core::PublishLimits,
    disk::{StoredKey, TransientChannels},
};

/// The log of one hub.
#[derive(Debug)]
pub(crate) struct Log {
    /// Queued submissions. At most one entry a permit, so it is never full.
    queue: ArrayQueue<Queued>,
    committer: Mutex<Committer>,
    durable: DurableStage,
    show: ShowStage,
    clock: Clock,
    permits: Arc<Semaphore>,
    outcome_wait: Duration,
    actor: Mutex<Option<ActorRef<LogMsg>>>,
    /// Why the log failed, once it has.
    failure: OnceLock<String>,
    /// Whether the log's actor has been woken and has not looked since.
    actor_awake: WakeFlag,
}

impl Log {
    /// A log that continues after the head of the store in `show`. `keys` are the idempotency keys
    /// of earlier publishes.
    pub(crate) fn new(
        show: ShowStage,
        durable: DurableStage,
        limits: &PublishLimits,
        clock: Clock,
        keys: impl IntoIterator<Item = StoredKey>,
    ) -> Arc<Self> {
        let in_flight_max = limits.in_flight_max.max(1) as usize;
        let head = show.store.position(show.store.head());
        Arc::new(Self {
            queue: ArrayQueue::new(in_flight_max),
            committer: Mutex::new(Committer::new(head, limits, keys)),
            durable,
            show,
            clock,
            permits: Arc::new(Semaphore::new(in_flight_max)),
            outcome_wait: Duration::from_millis(limits.outcome_wait_ms.into()),
            actor: Mutex::new(None),
            failure: OnceLock::new(),
            actor_awake: WakeFlag::default(),
        })
    }

    /// The permits of publishes in flight; a submission holds as many as its events cost.
    pub(crate) fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// Appends a submission, and answers once its events are durable and shown.
    ///
    /// Cancelling it (dropping the future) withdraws nothing: the submission stays in the order. So
    /// does one whose answer does not come in time.
    pub(crate) async fn append(&self, submission: Submission) -> Result<Committed, AppendError> {
        let (reply, answer) = oneshot::channel();
        let submitted = self.submit(submission, reply)?;
        // Publishers whose requests came together are committed together.
        yield_once().await;
        submitted.commit();
        let outcome = match self.durable.outlives_process() {
            false => answer.await,
            true => match timeout(self.outcome_wait, answer).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(AppendError::Unknown),
            },
        };
        outcome.unwrap_or(Err(AppendError::Unknown))
    }

    fn submit(&self, submission: Submission, reply: Reply) -> Result<Submitted<'_>, AppendError> {
        let is_large = submission.cost() > CommitBudget::INLINE.cost_max;
        let queued = Queued { submission, reply };
        self.queue.push(queued).map_err(|_| AppendError::QueueFull)?;
        Ok(Submitted { log: self, is_large })
    }

    /// Commits the queued submissions, on this thread or on that of the log's actor.
    fn commit_gathered(&self, is_large: bool) {
        let is_over_budget = !is_large && !self.queue.is_empty() && self.commit_inline();
        // The actor commits the rest: it is over the budget, or another commit is under way.
        if is_over_budget || !self.queue.is_empty() {
            self.wake_actor();
        }
    }

    /// Commits the queue within a small budget, unless a commit is under way. Returns whether a
    /// submission over the budget is left.
    fn commit_inline(&self) -> bool {
        let Some(mut committer) = self.committer.try_lock() else { return false };
        let commit = AssertUnwindSafe(|| self.commit(&mut committer, CommitBudget::INLINE));
        if catch_unwind(commit).is_err() {
            drop(committer);
            self.fail("a commit panicked");
            return false;
        }
        committer.has_deferred()
    }

    /// Commits the queued submissions, up to the budget of one commit of the actor. True if the
    /// queue is not empty and the caller has to continue; false, too, if the actor was woken
    /// meanwhile.
    pub(super) fn commit_all(&self) -> bool {
        self.actor_awake.lower();
        self.commit(&mut self.committer.lock(), CommitBudget::ALL);
        !self.queue.is_empty() && self.actor_awake.raise()
    }

    /// One commit through its stages.
    fn commit(&self, committer: &mut Committer, budget: CommitBudget) {
        committer.run(|committer| {
            if let DurableStage::Shared(stage) = &self.durable {
                let (is_closed, now) = (committer.is_closed(), self.clock.now());
                let gathered = committer.take_gathered(&self.queue, budget);
                return gathered.for_each(|queued| stage.enqueue(queued, is_closed, now));
            }
            let prepared = committer.prepare(
                &self.queue,
                budget,
                self.clock.now(),
                self.show.store.head(),
                self.durable.is_full(),
            );
            if !prepared.answers.is_empty() {
                self.durable.make_durable(prepared, &self.show);
            }
        });
    }

    /// Wakes the log's actor, once until it looks.
    fn wake_actor(&self) {
        if !self.actor_awake.raise() {
            return;
        }
        if !self.cast(LogMsg::Commit) {
            self.stop();
        }
    }

    /// Plants a fault in its actor.
    pub(super) fn plant_fault(&self) {
        self.cast(LogMsg::Panic);
    }

    fn cast(&self, msg: LogMsg) -> bool {
        self.actor.lock().as_ref().is_some_and(|actor| actor.cast(msg).is_ok())
    }

    /// Sets the log's actor, which learns of an earlier failure.
    pub(super) fn set_actor(&self, actor: ActorRef<LogMsg>) {
        *self.actor.lock() = Some(actor);
        if let Some(why) = self.failure.get() {
            self.cast(LogMsg::Failed(why.clone()));
        }
    }

    /// Refuses new submissions; the other ends are [`finish`](Self::finish) and
    /// [`stop`](Self::stop). Everything that it answered before is shown.
    pub(crate) fn close(&self) {
        self.committer.lock().close();
    }

    /// The name of the storage.
    pub(crate) fn storage(&self) -> &'static str {
        self.durable.name()
    }

    /// Whether events outlive the process.
    pub(crate) fn outlives_process(&self) -> bool {
        self.durable.outlives_process()
    }

    /// Drops what is not shown yet, and commits nothing more. Publishers whose events have their
    /// order get [`AppendError::Unknown`], others [`AppendError::LogClosed`].
    pub(crate) fn stop(&self) {
        self.stop_committing();
        self.durable.stop();
        *self.actor.lock() = None;
        self.actor_awake.lower();
    }

    /// Refuses new submissions, waits until committed events are durable and shown, and closes the
    /// storage. Fails with the reason if the log has failed.
    pub(crate) async fn finish(self: &Arc<Self>) -> Result<(), String> {
        self.close();
        if let DurableStage::Shared(stage) = &self.durable {
            stage.drained().await;
            stage.counts.leave().await;
        } else if self.outlives_process() {
            let log = Arc::clone(self);
            // It is an error only if the runtime ends meanwhile.
            let _ = spawn_blocking(move || log.durable.finish()).await;
        }
        self.failure.get().map_or(Ok(()), |why| Err(why.clone()))
    }

    /// Notes which channels are transient from now on, if events outlive the process.
    pub(crate) async fn note_transient(
        self: &Arc<Self>,
        channels: TransientChannels,
    ) -> io::Result<()> {
        let log = Arc::clone(self);
        // It is an error only if the runtime ends meanwhile.
        spawn_blocking(move || log.durable.note_transient(&channels)).await.unwrap_or(Ok(()))
    }

    fn stop_committing(&self) {
        let deferred = self.committer.lock().stop();
        for Queued { reply, .. } in deferred.into_iter().chain(iter::from_fn(|| self.queue.pop())) {
            let _ = reply.send(Err(AppendError::LogClosed));
        }
    }

    /// The log that it shares with other hubs, if it does.
    pub(crate) fn shared(&self) -> Option<&Arc<SharedStage>> {
        match &self.durable {
            DurableStage::Shared(stage) => Some(stage),
            _ => None,
        }
    }

    /// The store that readers read.
    pub(super) fn store(&self) -> &Arc<EventStore> {
        &self.show.store
    }

    /// Shows a commit that has become durable, on a thread of the stage that made it so.
    pub(super) fn show_prepared(&self, prepared: Prepared) -> bool {
        let is_shown = catch_unwind(AssertUnwindSafe(|| self.show.show(prepared))).is_ok();
        if !is_shown {
            self.fail("showing a commit panicked");
        }
        is_shown
    }

    /// Ends the log, which cannot be written any more, and with it the hub.
    pub(super) fn fail(&self, why: &str) {
        tracing::error!("{why}");
        let _ = self.failure.set(why.to_owned());
        self.durable.stop();
        self.cast(LogMsg::Failed(why.to_owned()));
    }

    /// Starts the threads of its stage, if that has any.
    pub(crate) fn start_stage(self: &Arc<Self>) -> io::Result<()> {
        match &self.durable {
            // The bridge is an actor.
            DurableStage::Memory | DurableStage::Shared(_) => Ok(()),
            DurableStage::Disk(stage) => {
                let (showing, failing) = (Arc::clone(self), Arc::clone(self));
                stage.start(LogAccess {
                    show: Box::new(move |prepared| showing.show_prepared(prepared)),
                    fail: Arc::new(move |why| failing.fail(why)),
                    store: Arc::clone(&self.show.store),
                    clock: self.clock,
                })
            }
            #[cfg(test)]
            DurableStage::Delayed(stage) => {
                let (showing, failing) = (Arc::clone(self), Arc::clone(self));
                stage.start(
                    move |prepared| _ = showing.show_prepared(prepared),
                    move || failing.fail("a planted fault of the disk"),
                );
                Ok(())
            }
        }
    }
}

/// A submission in the queue that has not been committed by its publisher yet.
#[derive(Debug)]
struct Submitted<'a> {
    log: &'a Log,
    is_large: bool,
}

impl Submitted<'_> {
    /// Commits it, with all that has gathered by now.
    fn commit(self) {
        self.log.commit_gathered(self.is_large);
        mem::forget(self);
    }
}

/// Covers cancellation alone: a publisher that is dropped while it yields leaves its submission in
/// the queue, where it would wait for the next publisher.
impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        self.log.commit_gathered(self.is_large);
    }
}

/// Yields once to the tasks that are ready now.
async fn yield_once() {
    let mut is_first = true;
    poll_fn(|context| {
        if mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// What tests look at, and break.
#[cfg(test)]
impl Log {
    pub(crate) fn durable(&self) -> &DurableStage {
        &self.durable
    }

    pub(crate) fn committer(&self) -> &Mutex<Committer> {
        &self.committer
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Queues a submission, and leaves it there.
    pub(crate) fn submit_only(&self, submission: Submission) {
        let (reply, _) = oneshot::channel();
        mem::forget(self.submit(submission, reply).expect("room"));
    }

    pub(crate) fn commit_within(&self, committer: &mut Committer, budget: CommitBudget) {
        self.commit(committer, budget);
    }
}
