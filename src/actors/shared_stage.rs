//! The *make durable* stage of a log that several hubs share: publishes wait here until the bridge
//! appends them, and their answers until this hub shows their events (docs/adr/042-redis.md).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::{
    append_queue::AppendQueue,
    backend_options::BackendOptions,
    clock::Now,
    committer::Answer,
    fan_out_trace::TracedEvents,
    following::Following,
    pending_append::PendingAppend,
    seen::Seen,
    shared_answers::{Answers, KnownAnswer},
    shared_counts::{Elsewhere, SharedCounts, Uncounted},
    submission::{AppendError, Queued},
};
use crate::{
    core::{ChannelLimits, PublishLimits},
    model::{ChannelName, Epoch, Seq},
    redis::{AppendLimits, Fence, Nonce, Run, SubmissionOutcome},
    telemetry::BackendMetrics,
};

/// The stage.
pub(crate) struct SharedStage {
    pub(super) options: BackendOptions,
    pub(super) append_limits: AppendLimits,
    pub(super) metrics: Arc<BackendMetrics>,
    pub(super) counts: SharedCounts,
    /// Permits for shown events that shards have not sent yet. They outlive the bridge: a restarted
    /// one finds in use what the one before it has given to the shards.
    show_permits: Arc<Semaphore>,
    show_permits_max: usize,
    pub(super) queue: AppendQueue,
    pub(crate) following: Following,
    answers: Mutex<Answers>,
    seen: Mutex<Seen>,
    wait_max: Duration,
    outcome_wait: Duration,
    /// A test holds back the next load of the log.
    #[cfg(test)]
    load_held: tokio::sync::watch::Sender<bool>,
}

impl SharedStage {
    /// The stage of a hub that has loaded the log up to a fence, from a run of the server.
    pub(crate) fn new(
        options: BackendOptions,
        publish: &PublishLimits,
        channels: &ChannelLimits,
        metrics: Arc<BackendMetrics>,
        (fence, run): (Fence, Run),
    ) -> Self {
        // As many as publish permits: a shard's ring has one entry per permit.
        let show_permits_max = publish.in_flight_max.max(1) as usize;
        Self {
            append_limits: AppendLimits {
                events_max: options.events_max,
                bytes_max: options.bytes_max,
                age_ms: options.age_max.as_millis() as u64,
                keys_ms: u64::from(publish.idempotency_s) * 1_000,
                keys_max: publish.idempotency_keys_max.into(),
                closed_ms: u64::from(channels.tombstone_s) * 1_000,
                closed_max: channels.tombstones_max.into(),
                quiet_channels_max: channels.forgotten_max.into(),
            },
            queue: AppendQueue::new(options.batch_events_max, Arc::clone(&metrics)),
            following: Following::new(fence, options.catch_up_wait, Arc::clone(&metrics)),
            counts: SharedCounts::new(Arc::clone(&metrics)),
            options,
            metrics,
            show_permits: Arc::new(Semaphore::new(show_permits_max)),
            show_permits_max,
            answers: Mutex::new(Answers::new(fence, run)),
            seen: Mutex::new(Seen { fence, highest: fence.seq }),
            wait_max: Duration::from_millis(publish.wait_ms.into()),
            outcome_wait: Duration::from_millis(publish.outcome_wait_ms.into()),
            #[cfg(test)]
            load_held: tokio::sync::watch::Sender::new(false),
        }
    }

    /// Queues a publish. The caller holds the log's lock.
    pub(super) fn enqueue(&self, queued: Queued, is_closed: bool, now: Now) {
        let Queued { submission, reply } = queued;
        if is_closed {
            let _ = reply.send(Err(AppendError::LogClosed));
            return;
        }
        if let Some(publish) = self.queue.push(PendingAppend::new(submission, reply, now)) {
            let _ = publish.reply_to.reply.send(Err(AppendError::LogClosed));
        }
    }

    /// The next publishes, as many as one append takes.
    pub(super) fn take_batch(&self) -> Vec<PendingAppend> {
        let batch = self.queue.take_batch();
        let mut answers = self.answers.lock();
        answers.begin_append(batch.iter().map(|publish| publish.first_nonce));
        for PendingAppend { trace, new, first_nonce, .. } in &batch {
            if let Some(trace) = trace {
                answers.trace(*first_nonce, new.entries.len(), Arc::clone(trace));
            }
        }
        drop(answers);
        batch
    }

    /// Requeues publishes of an append that did not happen, ahead of the others.
    pub(super) fn put_back(&self, batch: Vec<PendingAppend>) {
        self.answers.lock().end_append();
        refuse(self.queue.put_back(batch), &AppendError::LogClosed);
    }

    /// Takes the outcomes of an append, by a run of the server. Each publish is answered once this
    /// hub has shown the log up to its events.
    pub(super) fn resolve(
        &self,
        batch: Vec<PendingAppend>,
        (epoch, run): (Epoch, &Run),
        outcomes: Vec<SubmissionOutcome>,
        last: Seq,
    ) {
        let mut answers = self.answers.lock();
        for (publish, outcome) in batch.into_iter().zip(outcomes) {
            answers.add(outcome, (epoch, run, last), publish.first_nonce, publish.reply_to);
        }
        answers.end_append();
        let due = self.take_due(&mut answers);
        drop(answers);
        self.queue.end_append();
        send(due);
    }

    /// Takes the answers that need not wait until more of the log is shown. A halted hub shows no
    /// more: all known outcomes are due then, and unknown ones stay unknown.
    fn take_due(&self, answers: &mut Answers) -> Vec<KnownAnswer> {
        if !self.following.has_halted() {
            return answers.take_shown();
        }
        let due = answers.take_through(Seq(u64::MAX));
        answers.clear();
        due
    }

    /// Answers all publishes of the batch with this error.
    pub(super) fn refuse(&self, batch: Vec<PendingAppend>, error: &AppendError) {
        self.answers.lock().end_append();
        self.queue.end_append();
        refuse(batch, error);
    }

    /// Notes that it is unknown whether publishes were appended. Those that are found in the log
    /// were.
    pub(super) fn leave_unresolved(&self, batch: Vec<PendingAppend>) {
        let mut answers = self.answers.lock();
        for publish in batch {
            let events = publish.new.entries.len();
            answers.add_unresolved(publish.first_nonce, events, publish.reply_to);
        }
        // Publishes whose entries this hub has shown already were appended.
        answers.end_append();
        let due = self.take_due(&mut answers);
        drop(answers);
        self.queue.end_append();
        send(due);
    }

    /// Notes that an entry is in the log, which answers its publish if the outcome was unknown.
    /// Returns the traced publish that begins with the entry.
    pub(super) fn found(&self, nonce: &Nonce, epoch: Epoch, seq: Seq) -> Option<TracedEvents> {
        let mut answers = self.answers.lock();
        answers.found(nonce, epoch, seq);
        answers.take_traced(nonce, seq)
    }

    /// Takes the answers that are due once the log is shown up to `seq`; the caller then shows it,
    /// and calls [`note_shown`](Self::note_shown).
    pub(super) fn answers_through(&self, seq: Seq) -> (Vec<Answer>, Vec<OwnedSemaphorePermit>) {
        let due = self.answers.lock().take_through(seq);
        let mut permits = Vec::new();
        let answers = due.into_iter().map(|KnownAnswer { outcome, reply_to, .. }| {
            permits.extend(reply_to.permits);
            Answer { reply: reply_to.reply, outcome, key: None, trace: None }
        });
        (answers.collect(), permits)
    }

    /// Waits until the shards have sent enough earlier events, then returns a permit to show events
    /// of this cost.
    pub(super) async fn show_permit(&self, cost: usize) -> OwnedSemaphorePermit {
        let cost = u32::try_from(cost.clamp(1, self.show_permits_max)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.show_permits).acquire_many_owned(cost).await;
        permit.expect("no permits are ever closed")
    }

    /// Notes that this hub has shown the log up to the fence, and sends the answers that waited for
    /// that. From now on it appends after the fence.
    pub(super) fn note_shown(&self, fence: Fence) {
        self.seen.lock().add(fence);
        let due = self.answers.lock().show(fence);
        send(due);
        self.following.show(fence);
    }

    /// Notes that an entry was loaded: a client that came during the load may have received it.
    pub(super) fn note_loaded(&self, fence: Fence) {
        self.seen.lock().add(fence);
        if let Some(nonce) = fence.nonce {
            self.found(&nonce, fence.epoch, fence.seq);
        }
    }

    /// The highest position that clients of this hub may have received.
    pub(super) fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    /// Whether this run of the server is the one that is followed.
    pub(super) fn is_followed(&self, run: &Run) -> bool {
        self.answers.lock().follows(run)
    }

    /// Sets the run of the server that the connection follows. An outcome by another run counts
    /// once its entry is found in the log of this one.
    pub(super) fn set_followed_run(&self, run: &Run) {
        self.answers.lock().follow(run);
    }

    /// Begins to reload the histories; nothing is appended meanwhile. Known outcomes are answered
    /// now. If the log lost events they become [`Unknown`](AppendError::Unknown).
    pub(super) fn begin_loading(&self, is_lost: bool) {
        self.following.begin_loading();
        let mut answers = self.answers.lock();
        if is_lost {
            answers.lose();
        }
        let due = answers.take_through(Seq(u64::MAX));
        drop(answers);
        send(due);
    }

    /// Stops: nothing more is appended or shown, and subscriptions are refused. Publishes of the
    /// append under way are answered when it ends.
    pub(super) fn halt(&self) {
        self.following.halt();
        refuse(self.queue.stop(), &AppendError::LogClosed);
        let due = self.take_due(&mut self.answers.lock());
        send(due);
    }

    /// The most events of one append.
    pub(crate) fn batch_events_max(&self) -> u32 {
        self.options.batch_events_max
    }

    /// What the other hubs have reported about a channel's subscribers.
    pub(crate) async fn elsewhere(&self, channel: &ChannelName) -> Result<Elsewhere, Uncounted> {
        self.counts.elsewhere(channel).await
    }

    /// Answers publishes that have waited too long.
    pub(super) fn expire(&self) {
        let expired = self.queue.take_expired(self.wait_max.max(WAIT_MIN));
        refuse(expired, &AppendError::BackendAway);
        // A known outcome is answered after `SHOWN_WAIT_MAX` even if this hub has not shown it yet.
        let due = self.answers.lock().take_late(SHOWN_WAIT_MAX, self.outcome_wait);
        send(due);
    }

    /// Refuses publishes from now on, and those that wait. Publishes of the append under way have
    /// an unknown outcome.
    pub(super) fn stop(&self) {
        refuse(self.queue.stop(), &AppendError::LogClosed);
        self.answers.lock().clear();
    }

    /// Waits until all publishes are answered, for the longest time that an answer may take.
    pub(super) async fn drained(&self) {
        let is_drained = || self.queue.is_idle() && self.answers.lock().is_empty();
        let drained = async {
            while !is_drained() {
                sleep(LOOK_AGAIN).await;
            }
        };
        let _ = timeout(self.wait_max + SHOWN_WAIT_MAX, drained).await;
    }
}

fn send(due: Vec<KnownAnswer>) {
    due.into_iter().for_each(KnownAnswer::send);
}

fn refuse(publishes: impl IntoIterator<Item = PendingAppend>, error: &AppendError) {
    for publish in publishes {
        let _ = publish.reply_to.reply.send(Err(error.clone()));
    }
}

impl std::fmt::Debug for SharedStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStage").field("options", &self.options).finish_non_exhaustive()
    }
}

/// For tests: holds back appends and loads, and looks inside.
#[cfg(test)]
impl SharedStage {
    pub(crate) fn hold(&self, is_held: bool) {
        self.queue.hold(is_held);
    }

    pub(crate) fn hold_load(&self, is_held: bool) {
        self.load_held.send_replace(is_held);
    }

    pub(super) async fn loading_held(&self) {
        let _ = self.load_held.subscribe().wait_for(|is_held| !is_held).await;
    }

    pub(crate) async fn all_show_permits(&self) -> OwnedSemaphorePermit {
        self.show_permit(self.show_permits_max).await
    }

    /// How many publishes wait to be appended.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }
}

/// Minimum of `publish.wait_ms` here: a publish may have to wait for one append before its own.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// How long a known outcome waits until this hub shows the events that it refers to.
const SHOWN_WAIT_MAX: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
