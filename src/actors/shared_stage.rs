//! The *make durable* stage of a log that several hubs share: publishes wait here for the bridge to
//! append them, and their answers until this hub shows their events (docs/adr/042-redis.md).
//!
//! Its queue is bounded by the permits of publishes in flight, in events and in bytes.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    clock::Now,
    committer::Answer,
    fan_out_trace::TracedEvents,
    seen::Seen,
    shared_answers::{Answers, KnownAnswer, Receipt},
    shared_counts::{Elsewhere, SharedCounts, Uncounted},
    submission::{AppendError, Queued, Reply, Submission},
};
use crate::{
    auth::Secret,
    core::{ChannelLimits, PublishLimits},
    model::{ChannelName, Epoch, Position, Seq},
    redis::{
        AppendLimits, BackendAddress, Entry, Fence, NewEntries, Nonce, RedisOptions, Run,
        SubmissionOutcome,
    },
    telemetry::{BackendMetrics, PublishTrace, Stage, Step, Value},
};

/// The log that a hub shares with others.
#[derive(Debug, Clone)]
pub struct BackendOptions {
    /// The server that keeps it.
    pub redis: RedisOptions,
    /// Events that the log keeps, about; older ones are removed.
    pub events_max: u64,
    /// Bytes of the events that the log keeps, about; the oldest are removed.
    pub bytes_max: u64,
    /// How long the log keeps events, about.
    pub age_max: Duration,
    /// Events that are appended at once, and so those of one publish.
    pub batch_events_max: u32,
    /// How long a subscription waits for this hub to have what another has shown already.
    pub catch_up_wait: Duration,
    /// Between two reports of how many subscribers this hub has.
    pub counts_interval: Duration,
    /// How long such a report counts at the other hubs if no further one comes.
    pub counts_expiry: Duration,
    /// Channels of such a report.
    pub counts_channels_max: u32,
}

impl BackendOptions {
    /// The default options for a server.
    pub fn new(address: BackendAddress) -> Self {
        Self {
            redis: RedisOptions {
                address,
                user: String::new(),
                password: Secret::default(),
                ca: Vec::new(),
                namespace: "visnyk".to_owned(),
            },
            events_max: 200_000,
            bytes_max: 1 << 30,
            age_max: Duration::from_secs(86_400),
            batch_events_max: 256,
            catch_up_wait: Duration::from_millis(5_000),
            counts_interval: Duration::from_millis(2_000),
            counts_expiry: Duration::from_millis(10_000),
            counts_channels_max: 100_000,
        }
    }
}

/// The stage.
pub(crate) struct SharedStage {
    pub(super) options: BackendOptions,
    pub(super) append_limits: AppendLimits,
    pub(super) metrics: Arc<BackendMetrics>,
    pub(super) counts: SharedCounts,
    /// Of events on their way to the shards. A bridge that is restarted finds in use what its
    /// predecessor has given to them.
    show_permits: Arc<Semaphore>,
    show_permits_max: usize,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    answers: Mutex<Answers>,
    seen: Mutex<Seen>,
    /// What this hub has of the log; none while it is loaded anew.
    fence: watch::Sender<Option<Fence>>,
    condition: watch::Sender<Condition>,
    /// How often the connection that follows the log has broken.
    outages: watch::Sender<u64>,
    wait_max: Duration,
    outcome_wait: Duration,
    /// A test holds up the next load of the log.
    #[cfg(test)]
    load_held: watch::Sender<bool>,
}

/// How this hub stands to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It shows what the log has.
    Following,
    /// The server cannot be reached.
    Away,
    /// The histories are loaded anew.
    Loading,
    /// It goes on with no event, since it could not without losing one: see the process's log.
    Halted,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Handed>,
    /// What the bridge has taken and not got an answer for.
    in_call: usize,
    has_stopped: bool,
    /// A test holds up the next append.
    #[cfg(test)]
    is_held: bool,
}

/// A publish that is to be appended.
pub(super) struct Handed {
    pub(super) new: NewEntries,
    bytes: usize,
    first_nonce: Nonce,
    handed: Instant,
    receipt: Receipt,
    /// Of a publish that is traced.
    trace: Option<Arc<PublishTrace>>,
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
        // As many as there are of the log, so that an entry of a shard's ring is left for each batch.
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
            },
            options,
            counts: SharedCounts::new(Arc::clone(&metrics)),
            metrics,
            show_permits: Arc::new(Semaphore::new(show_permits_max)),
            show_permits_max,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            answers: Mutex::new(Answers::new(fence, run)),
            seen: Mutex::new(Seen { fence, highest: fence.seq }),
            fence: watch::Sender::new(Some(fence)),
            condition: watch::Sender::new(Condition::Following),
            outages: watch::Sender::new(0),
            wait_max: Duration::from_millis(publish.wait_ms.into()),
            outcome_wait: Duration::from_millis(publish.outcome_wait_ms.into()),
            #[cfg(test)]
            load_held: watch::Sender::new(false),
        }
    }

    /// Takes a publish. The log's lock is held.
    pub(super) fn hand_over(&self, queued: Queued, is_closed: bool, now: Now) {
        let Queued { submission, reply } = queued;
        if is_closed {
            let _ = reply.send(Err(AppendError::LogClosed));
            return;
        }
        let handed = Handed::new(submission, reply, now);
        let mut waiting = self.waiting.lock();
        if waiting.has_stopped {
            let _ = handed.receipt.reply.send(Err(AppendError::LogClosed));
            return;
        }
        waiting.queue.push_back(handed);
        self.metrics.observe_queued(waiting.queue.len());
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits for publishes. Cancelling it has no effect.
    pub(super) async fn filled(&self) {
        loop {
            if self.waiting.lock().has_work() {
                return;
            }
            self.arrived.notified().await;
        }
    }

    /// No append is under way: the bridge that had begun one has failed.
    pub(super) fn forget_append(&self) {
        self.waiting.lock().in_call = 0;
    }

    /// The next publishes, as many as one append takes.
    pub(super) fn take_batch(&self) -> Vec<Handed> {
        let mut waiting = self.waiting.lock();
        let (mut batch, mut events, mut bytes) = (Vec::new(), 0, 0);
        let events_max = self.options.batch_events_max as usize;
        while waiting.has_work()
            && let Some(next) = waiting.queue.front()
        {
            events += next.new.entries.len();
            bytes += next.bytes;
            if !batch.is_empty() && (events > events_max || bytes > APPEND_BYTES_MAX) {
                break;
            }
            batch.extend(waiting.queue.pop_front());
        }
        waiting.in_call = batch.len();
        self.metrics.observe_queued(waiting.queue.len());
        drop(waiting);
        self.answers.lock().begin_append(batch.iter().map(|handed| handed.first_nonce));
        for Handed { trace, new, first_nonce, .. } in &batch {
            if let Some(trace) = trace {
                let mut answers = self.answers.lock();
                answers.trace(*first_nonce, new.entries.len(), Arc::clone(trace));
            }
        }
        batch
    }

    /// Publishes that were certainly not appended wait again, before the others.
    pub(super) fn put_back(&self, batch: Vec<Handed>) {
        self.answers.lock().end_append();
        let mut waiting = self.waiting.lock();
        waiting.in_call = 0;
        if waiting.has_stopped {
            drop(waiting);
            return self.refuse(batch, &AppendError::LogClosed);
        }
        for handed in batch.into_iter().rev() {
            waiting.queue.push_front(handed);
        }
        self.metrics.observe_queued(waiting.queue.len());
    }

    /// Publishes have their outcomes, by a run of the server. They are answered when this hub has shown
    /// what those rest on.
    pub(super) fn resolve(
        &self,
        batch: Vec<Handed>,
        (epoch, run): (Epoch, &Run),
        outcomes: Vec<SubmissionOutcome>,
        last: Seq,
    ) {
        let mut answers = self.answers.lock();
        for (handed, outcome) in batch.into_iter().zip(outcomes) {
            answers.add(outcome, (epoch, run, last), handed.first_nonce, handed.receipt);
        }
        answers.end_append();
        let due = self.take_due(&mut answers);
        drop(answers);
        self.waiting.lock().in_call = 0;
        send(due);
    }

    /// The answers that need not wait for the log to be shown further. Once it has halted that will
    /// never be: known outcomes are due, and open ones stay open.
    fn take_due(&self, answers: &mut Answers) -> Vec<KnownAnswer> {
        if !self.has_halted() {
            return answers.take_shown();
        }
        let due = answers.take_through(Seq(u64::MAX));
        answers.clear();
        due
    }

    /// Publishes get this answer.
    pub(super) fn refuse(&self, batch: Vec<Handed>, error: &AppendError) {
        self.answers.lock().end_append();
        self.waiting.lock().in_call = 0;
        for handed in batch {
            let _ = handed.receipt.reply.send(Err(error.clone()));
        }
    }

    /// It is not known whether publishes were appended. Those that are found in the log were.
    pub(super) fn leave_open(&self, batch: Vec<Handed>) {
        let mut answers = self.answers.lock();
        for handed in batch {
            answers.add_open(handed.first_nonce, handed.new.entries.len(), handed.receipt);
        }
        // What this hub has shown already was taken.
        answers.end_append();
        let due = self.take_due(&mut answers);
        drop(answers);
        self.waiting.lock().in_call = 0;
        send(due);
    }

    /// An entry is in the log. If its append had no answer, it has one now. Gives the traced publish that
    /// begins with it.
    pub(super) fn found(&self, nonce: &Nonce, epoch: Epoch, seq: Seq) -> Option<TracedEvents> {
        let mut answers = self.answers.lock();
        answers.found(nonce, epoch, seq);
        answers.take_traced(nonce, seq)
    }

    /// The answers that are due once the log is shown up to here; [`has_shown`](Self::has_shown)
    /// follows.
    pub(super) fn answers_through(&self, seq: Seq) -> (Vec<Answer>, Vec<OwnedSemaphorePermit>) {
        let due = self.answers.lock().take_through(seq);
        let mut permits = Vec::new();
        let answers = due.into_iter().map(|KnownAnswer { outcome, receipt, .. }| {
            permits.extend(receipt.permits);
            Answer { reply: receipt.reply, outcome, key: None, trace: None }
        });
        (answers.collect(), permits)
    }

    /// Waits until the shards are through with enough of what they were given before to show events
    /// that cost so much.
    pub(super) async fn show_permit(&self, cost: usize) -> OwnedSemaphorePermit {
        let cost = u32::try_from(cost.clamp(1, self.show_permits_max)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.show_permits).acquire_many_owned(cost).await;
        permit.expect("no permits are ever closed")
    }

    /// This hub has shown the log as far as the fence, and appends behind that.
    pub(super) fn has_shown(&self, fence: Fence) {
        self.seen.lock().add(fence);
        let due = self.answers.lock().show(fence);
        send(due);
        self.fence.send_replace(Some(fence));
    }

    /// An entry was loaded. A client that came in between may have been sent it.
    pub(super) fn has_loaded(&self, fence: Fence) {
        self.seen.lock().add(fence);
        if let Some(nonce) = fence.nonce {
            self.found(&nonce, fence.epoch, fence.seq);
        }
    }

    /// What clients of this hub may have been sent of the log.
    pub(super) fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    /// Whether this run of the server is the one that is followed.
    pub(super) fn is_followed(&self, run: &Run) -> bool {
        self.answers.lock().follows(run)
    }

    /// The log is followed over a connection to this run of the server. What another run has answered
    /// counts once it is found here.
    pub(super) fn follows(&self, run: &Run) {
        self.answers.lock().follow(run);
    }

    /// The histories are loaded anew, and nothing is appended meanwhile. Outcomes that are known are
    /// answered; if events were lost it is not known any more whether those of publishes are kept.
    pub(super) fn begin_loading(&self, is_lost: bool) {
        self.set_condition(Condition::Loading);
        self.fence.send_replace(None);
        let mut answers = self.answers.lock();
        if is_lost {
            answers.lose();
        }
        let due = answers.take_through(Seq(u64::MAX));
        drop(answers);
        send(due);
    }

    /// Nothing more is appended or shown, and no subscription is taken. Publishes whose append is
    /// under way are answered when that has ended.
    pub(super) fn halt(&self) {
        self.set_condition(Condition::Halted);
        self.fence.send_replace(None);
        self.refuse_all();
        let due = self.take_due(&mut self.answers.lock());
        send(due);
    }

    /// Whether it has halted.
    pub(crate) fn has_halted(&self) -> bool {
        self.condition() == Condition::Halted
    }

    /// What this hub has of the log; none while it is loaded anew.
    pub(super) fn fence(&self) -> Option<Fence> {
        *self.fence.borrow()
    }

    /// Waits until this hub has the log. Cancelling it has no effect.
    pub(super) async fn has_fence(&self) {
        // The sender is here.
        let _ = self.fence.subscribe().wait_for(Option::is_some).await;
    }

    /// Counts the outages of the connection that follows the log.
    pub(super) fn outages(&self) -> watch::Receiver<u64> {
        self.outages.subscribe()
    }

    /// The connection that follows the log has broken.
    pub(super) fn go_away(&self) {
        if self.fence().is_some() {
            self.set_condition(Condition::Away);
        }
        self.outages.send_modify(|outages| *outages += 1);
    }

    pub(super) fn set_condition(&self, condition: Condition) {
        self.condition.send_if_modified(|now| {
            let is_new = *now != condition && *now != Condition::Halted;
            if is_new {
                *now = condition;
            }
            is_new
        });
        self.metrics.observe_connected(*self.condition.borrow() == Condition::Following);
    }

    /// The most events of one append.
    pub(crate) fn batch_events_max(&self) -> u32 {
        self.options.batch_events_max
    }

    /// What the other hubs have reported of a channel's subscribers.
    pub(crate) async fn elsewhere(&self, channel: &ChannelName) -> Result<Elsewhere, Uncounted> {
        self.counts.elsewhere(channel).await
    }

    /// How this hub stands to the log.
    pub(crate) fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    /// Whether the histories are loaded anew.
    pub(crate) fn is_loading(&self) -> bool {
        self.condition() == Condition::Loading
    }

    /// Whether the server cannot be reached.
    pub(crate) fn is_away(&self) -> bool {
        self.condition() == Condition::Away
    }

    /// Waits until a subscription may start there: the histories are loaded, and what another hub has
    /// shown is shown here too. False if that took too long, or can never be.
    pub(crate) async fn catch_up(&self, at: Option<Position>) -> bool {
        let mut condition = self.condition.subscribe();
        let follows = async {
            let _ = condition.wait_for(|condition| *condition != Condition::Loading).await;
            let Some(at) = at.filter(|_| self.condition() != Condition::Halted) else { return };
            let mut fence = self.fence.subscribe();
            let has = |fence: &Option<Fence>| {
                fence.is_some_and(|fence| match at.epoch == fence.epoch {
                    true => at.seq <= fence.seq,
                    // Another hub may know of a later epoch already.
                    false => at.epoch < fence.epoch,
                })
            };
            let _ = fence.wait_for(has).await;
        };
        let follows = timeout(self.options.catch_up_wait, follows).await.is_ok();
        // An epoch of a log that this one has nothing to do with is answered with a gap.
        let is_foreign = |at: Position| self.fence().is_some_and(|fence| fence.epoch != at.epoch);
        match self.condition() {
            Condition::Halted => false,
            Condition::Loading => follows,
            Condition::Following | Condition::Away => follows || at.is_none_or(is_foreign),
        }
    }

    /// Answers publishes that have waited for too long.
    pub(super) fn expire(&self) {
        let now = Instant::now();
        let mut expired = Vec::new();
        let mut waiting = self.waiting.lock();
        while let Some(first) = waiting.queue.front()
            && now.duration_since(first.handed) >= self.wait_max.max(WAIT_MIN)
        {
            expired.extend(waiting.queue.pop_front());
        }
        if !expired.is_empty() {
            self.metrics.observe_queued(waiting.queue.len());
        }
        drop(waiting);
        for handed in expired {
            let _ = handed.receipt.reply.send(Err(AppendError::BackendAway));
        }
        // What is known is not kept back for long by a hub that lags.
        let due = self.answers.lock().take_late(SHOWN_WAIT_MAX, self.outcome_wait);
        send(due);
    }

    /// Takes nothing more. Publishes under way have an open outcome, others are refused.
    pub(super) fn stop(&self) {
        self.refuse_all();
        self.answers.lock().clear();
    }

    /// Refuses publishes that wait, and all that come.
    fn refuse_all(&self) {
        let mut waiting = self.waiting.lock();
        waiting.has_stopped = true;
        let queue = mem::take(&mut waiting.queue);
        self.metrics.observe_queued(0);
        drop(waiting);
        for handed in queue {
            let _ = handed.receipt.reply.send(Err(AppendError::LogClosed));
        }
    }

    /// Waits until what was taken is answered, and not for longer than it may be.
    pub(super) async fn drained(&self) {
        let is_drained = || {
            let waiting = self.waiting.lock();
            let is_empty = waiting.queue.is_empty() && waiting.in_call == 0;
            drop(waiting);
            is_empty && self.answers.lock().is_empty()
        };
        let drained = async {
            while !is_drained() {
                sleep(LOOK_AGAIN).await;
            }
        };
        let _ = timeout(self.wait_max + SHOWN_WAIT_MAX, drained).await;
    }
}

impl Handed {
    /// Records a call of the server that it was in, if it is traced, and its end as durable if it is.
    pub(super) fn called(
        &self,
        server: &BackendAddress,
        times: (Instant, Instant),
        batch_events: usize,
        error: Option<&'static str>,
    ) {
        let Some(trace) = &self.trace else { return };
        let (began, ended) = (times.0.into_std(), times.1.into_std());
        let mut attributes = vec![
            ("db.system.name", Value::Word("redis")),
            ("db.operation.name", Value::Word("EVALSHA")),
            ("visnyk.backend", Value::Text(server.to_string())),
            ("visnyk.batch.events", Value::Whole(batch_events as u64)),
        ];
        if let Some(error) = error {
            attributes.push(("error.type", Value::Word(error)));
        }
        trace.step(Step::RedisAppend, (began, ended), attributes, error);
        if error.is_none() {
            trace.stage_ended(Stage::MakeDurable, self.handed.into_std(), Vec::new(), None);
        }
    }

    fn new(submission: Submission, reply: Reply, now: Now) -> Self {
        let Submission { events, kind, key, permits, trace } = submission;
        let mut channels = Vec::new();
        let mut entries = Vec::with_capacity(events.len());
        let mut bytes = 0;
        let mut first_nonce = Nonce::default();
        for (index, (entry, draft)) in events.iter().enumerate() {
            let nonce = fastrand::u64(..).to_le_bytes();
            if index == 0 {
                first_nonce = nonce;
            }
            if !channels.contains(entry.name()) {
                channels.push(entry.name().clone());
            }
            let encoded = Entry::encode(nonce, kind, now.wall_ms, entry.name(), draft);
            bytes += encoded.len();
            entries.push(Bytes::from(encoded));
        }
        Self {
            new: NewEntries { key, kind, channels, entries },
            bytes,
            first_nonce,
            handed: Instant::now(),
            receipt: Receipt { reply, permits },
            trace,
        }
    }
}

impl Waiting {
    fn has_work(&self) -> bool {
        #[cfg(test)]
        if self.is_held {
            return false;
        }
        !self.queue.is_empty()
    }
}

fn send(due: Vec<KnownAnswer>) {
    due.into_iter().for_each(KnownAnswer::send);
}

impl std::fmt::Debug for SharedStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStage").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What tests hold up and look at.
#[cfg(test)]
impl SharedStage {
    pub(crate) fn hold(&self, is_held: bool) {
        self.waiting.lock().is_held = is_held;
        self.arrived.notify_one();
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
        self.waiting.lock().queue.len()
    }
}

/// Bytes of one append; a larger publish is one of its own.
const APPEND_BYTES_MAX: usize = 256 << 10;
/// Less would refuse publishes that only wait for the append before theirs.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// How long an outcome that is known waits for this hub to show what it rests on.
const SHOWN_WAIT_MAX: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
