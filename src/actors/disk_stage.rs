//! The *make durable* stage of a log on disk: one thread writes what has gathered as one batch,
//! fsyncs it and shows it, while the next commits gather (docs/adr/031-a-log-on-disk.md).

use std::{
    collections::VecDeque,
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    clock::Clock,
    committer::{Answer, CommitTrace, Prepared},
    log_reads::LogReads,
    read_limits::ReadLimits,
};
use crate::{
    backend::EventStore,
    disk::{
        Histories, LocalDirectory, LogKeeper, LogStatus, LogWriter, OpenLog, SyncPolicy,
        TransientChannels, WriteError,
    },
    model::{ChannelName, Draft, Seq},
    telemetry::{DiskMetrics, PublishTrace, Stage, Step, Value},
};

/// The stage.
pub(crate) struct DiskStage {
    gathering: Arc<Gathering>,
    status: Arc<LogStatus<LocalDirectory>>,
    metrics: Arc<DiskMetrics>,
    sync: SyncPolicy,
    /// Ends with it.
    reads: Arc<LogReads>,
    /// The log until its threads start, then the threads.
    state: Mutex<State>,
}

enum State {
    Opened(Box<OpenedLog>),
    Running { flusher: JoinHandle<()>, keeper: JoinHandle<()> },
    Ended,
}

struct OpenedLog {
    writer: LogWriter<LocalDirectory>,
    keeper: LogKeeper<LocalDirectory>,
}

/// What its threads need of the log.
pub(super) struct LogAccess {
    /// Shows a commit that is durable; false if that failed.
    pub(super) show: Box<dyn Fn(Prepared) -> bool + Send>,
    /// Ends the log after a failed write.
    pub(super) fail: Arc<dyn Fn(&str) + Send + Sync>,
    pub(super) store: Arc<EventStore>,
    pub(super) clock: Clock,
}

/// The commits that wait for the next write.
#[derive(Default)]
struct Gathering {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    commits: VecDeque<Prepared>,
    /// New commits are refused; queued ones are still written.
    is_closing: bool,
    /// Nothing more is written.
    has_stopped: bool,
    /// A test holds back the next write.
    #[cfg(test)]
    is_held: bool,
}

impl Queue {
    fn is_held(&self) -> bool {
        #[cfg(test)]
        return self.is_held;
        #[cfg(not(test))]
        false
    }
}

impl DiskStage {
    /// The stage of a log whose events are shown by `store`. Its readers can read at once.
    pub(crate) fn new(
        log: OpenLog<LocalDirectory>,
        sync: SyncPolicy,
        metrics: Arc<DiskMetrics>,
        store: Arc<EventStore>,
        read_limits: ReadLimits,
    ) -> io::Result<Self> {
        let OpenLog { writer, keeper, status, reader, .. } = log;
        let reads = LogReads::start(store, reader, read_limits, Arc::clone(&metrics))?;
        Ok(Self {
            gathering: Arc::default(),
            status: Arc::new(status),
            metrics,
            sync,
            reads: Arc::new(reads),
            state: Mutex::new(State::Opened(Box::new(OpenedLog { writer, keeper }))),
        })
    }

    /// Reads of what it has written.
    pub(crate) fn reads(&self) -> &Arc<LogReads> {
        &self.reads
    }

    /// Starts its threads, which end with the log.
    pub(super) fn start(&self, log: LogAccess) -> io::Result<()> {
        let mut state = self.state.lock();
        let State::Opened(opened) = mem::replace(&mut *state, State::Ended) else { return Ok(()) };
        let OpenedLog { writer, mut keeper } = *opened;
        let LogAccess { show, fail, store, clock } = log;
        let histories = StoredHistories(store);
        // Whether there is room is known before the first publish.
        keeper.work(&histories, clock.now_ms())?;
        let flusher = Flusher {
            writer,
            gathering: Arc::clone(&self.gathering),
            metrics: Arc::clone(&self.metrics),
            sync: self.sync,
            synced: Instant::now(),
            is_dirty: false,
            show,
            fail: Arc::clone(&fail),
            clock,
        };
        let flusher = thread::Builder::new()
            .name("visnyk-log-write".to_owned())
            .spawn(move || flusher.run())?;
        let (status, metrics) = (Arc::clone(&self.status), Arc::clone(&self.metrics));
        let keeper =
            thread::Builder::new().name("visnyk-log-keep".to_owned()).spawn(move || {
                while keeper.wait(KEEPER_INTERVAL) {
                    if let Err(error) = keeper.work(&histories, clock.now_ms()) {
                        return fail(&format!(
                            "cannot allocate or remove segments of the log: {error}"
                        ));
                    }
                    metrics.observe_segments(status.sealed(), status.is_full());
                }
            })?;
        *state = State::Running { flusher, keeper };
        Ok(())
    }

    /// Queues a commit; returns it as the error after `finish` or `stop`.
    pub(super) fn queue(&self, mut prepared: Prepared) -> Result<(), Prepared> {
        let mut queue = self.gathering.queue.lock();
        if queue.is_closing || queue.has_stopped {
            return Err(prepared);
        }
        if prepared.answers.iter().any(|answer| answer.trace.is_some()) {
            let trace = CommitTrace { queued: Some(Instant::now()), ..CommitTrace::default() };
            prepared.trace = Some(Box::new(trace));
        }
        queue.commits.push_back(prepared);
        self.gathering.changed.notify_all();
        Ok(())
    }

    /// Whether the disk has no room for new commits.
    pub(super) fn is_full(&self) -> bool {
        self.status.is_full()
    }

    /// Notes on disk which channels are transient. Blocks until that is durable.
    pub(super) fn note_transient(&self, channels: &TransientChannels) -> io::Result<()> {
        self.status.note_transient(channels)
    }

    /// Drops queued commits; writes and shows nothing more.
    pub(crate) fn stop(&self) {
        let mut queue = self.gathering.queue.lock();
        queue.has_stopped = true;
        let commits = mem::take(&mut queue.commits);
        self.gathering.changed.notify_all();
        drop(queue);
        drop(commits);
        self.status.stop();
        self.reads.stop();
    }

    /// Writes and shows queued commits, refuses new ones, and closes the log. Blocks until that is
    /// done.
    pub(super) fn finish(&self) {
        self.gathering.queue.lock().is_closing = true;
        self.gathering.changed.notify_all();
        self.status.close();
        let state = mem::replace(&mut *self.state.lock(), State::Ended);
        if let State::Running { flusher, keeper } = state {
            // Their panics have been reported.
            let _ = flusher.join();
            self.status.stop();
            let _ = keeper.join();
        }
        // Readers have the directory open too, which the next process wants.
        self.reads.finish();
    }
}

/// Writes commits, on a thread of its own.
struct Flusher {
    writer: LogWriter<LocalDirectory>,
    gathering: Arc<Gathering>,
    metrics: Arc<DiskMetrics>,
    sync: SyncPolicy,
    synced: Instant,
    /// Whether something is written and not durable.
    is_dirty: bool,
    show: Box<dyn Fn(Prepared) -> bool + Send>,
    fail: Arc<dyn Fn(&str) + Send + Sync>,
    clock: Clock,
}

impl Flusher {
    fn run(self) {
        let fail = Arc::clone(&self.fail);
        match catch_unwind(AssertUnwindSafe(|| self.write_all())) {
            // Stopped while waiting for a segment: the remaining commits are dropped, and their
            // publishers get `Unknown`.
            Ok(Ok(()) | Err(WriteError::Stopped)) => {}
            Ok(Err(error)) => fail(&error.to_string()),
            Err(_) => fail("writing the log panicked"),
        }
    }

    /// Writes until the log ends, and closes it.
    fn write_all(mut self) -> Result<(), WriteError> {
        while let Some(commits) = self.gathered() {
            self.flush(commits)?;
        }
        // Not under the lock, which publishers take: closing takes as long as its fsyncs.
        let has_stopped = self.gathering.queue.lock().has_stopped;
        if has_stopped { Ok(()) } else { self.writer.close() }
    }

    /// Waits for the commits of one batch, or until an fsync is due (empty); `None` at the end.
    fn gathered(&self) -> Option<Vec<Prepared>> {
        let mut queue = self.gathering.queue.lock();
        while (queue.commits.is_empty() && !queue.is_closing || queue.is_held())
            && !queue.has_stopped
        {
            match self.sync {
                SyncPolicy::Every(interval) if self.is_dirty => {
                    let until = self.synced + interval;
                    if self.gathering.changed.wait_until(&mut queue, until).timed_out() {
                        return Some(Vec::new());
                    }
                }
                _ => self.gathering.changed.wait(&mut queue),
            }
        }
        if queue.has_stopped || queue.commits.is_empty() {
            return None;
        }
        let mut commits = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.commits.front()
            && (commits.is_empty() || bytes + next.bytes() <= BATCH_BYTES_MAX)
        {
            bytes += next.bytes();
            commits.extend(queue.commits.pop_front());
        }
        Some(commits)
    }

    fn flush(&mut self, commits: Vec<Prepared>) -> Result<(), WriteError> {
        self.writer.begin();
        let (now_ms, mut events) = (self.clock.now_ms(), 0);
        for commit in &commits {
            events += commit.write_to(&mut self.writer, now_ms)?;
        }
        let mut times = BatchTimes::of(&commits);
        if events > 0 {
            self.writer.write(now_ms)?;
            times.written(events, self.writer.batch_bytes());
            self.is_dirty = true;
            self.metrics.observe_batch(events, self.writer.batch_bytes());
        }
        let is_due = match self.sync {
            SyncPolicy::Always => true,
            SyncPolicy::Every(interval) => self.synced.elapsed() >= interval,
        };
        if self.is_dirty && is_due {
            let started = Instant::now();
            self.metrics.sync_started(self.clock.now_ms());
            self.writer.sync()?;
            self.metrics.sync_ended(started.elapsed());
            times.synced(started);
            (self.synced, self.is_dirty) = (Instant::now(), false);
        }
        if let Some((_, last)) = commits.iter().rev().find_map(|commit| commit.events.last()) {
            self.writer.give_out(last.seq)?;
        }
        times.record(&commits);
        for commit in commits {
            if !(self.show)(commit) {
                return Err(WriteError::Stopped);
            }
        }
        Ok(())
    }
}

/// When the parts of a batch were done, if it has a publish that is traced.
struct BatchTimes {
    began: Option<Instant>,
    written: Option<(Instant, u64, u64)>,
    synced: Option<(Instant, Instant)>,
}

impl BatchTimes {
    fn of(commits: &[Prepared]) -> Self {
        let is_traced = commits.iter().any(|commit| traces_of(commit).next().is_some());
        Self { began: is_traced.then(Instant::now), written: None, synced: None }
    }

    fn written(&mut self, events: usize, bytes: usize) {
        self.written = self.began.map(|_| (Instant::now(), events as u64, bytes as u64));
    }

    fn synced(&mut self, started: Instant) {
        self.synced = self.began.map(|_| (started, Instant::now()));
    }

    /// Records them for the traced publishes of these commits. An interval of `log.sync` leaves the
    /// fsync out, and a publish to transient channels may be in a batch that writes nothing.
    fn record(&self, commits: &[Prepared]) {
        let Some(began) = self.began else { return };
        for commit in commits {
            for trace in traces_of(commit) {
                if let Some((written, events, bytes)) = self.written {
                    let attributes = vec![
                        ("visnyk.batch.events", Value::Whole(events)),
                        ("visnyk.batch.bytes", Value::Whole(bytes)),
                    ];
                    trace.step(Step::Write, (began, written), attributes, None);
                }
                if let Some(times) = self.synced {
                    trace.step(Step::Sync, times, Vec::new(), None);
                }
                let queued = commit.trace.as_ref().and_then(|trace| trace.queued).unwrap_or(began);
                trace.stage_ended(Stage::MakeDurable, queued, Vec::new(), None);
            }
        }
    }
}

/// The traces of publishes that a commit appends.
fn traces_of(commit: &Prepared) -> impl Iterator<Item = Arc<PublishTrace>> {
    let traced = commit.answers.iter().filter_map(Answer::traced_events);
    traced.map(|traced| traced.trace)
}

/// The histories in memory, as the keeper of the log sees them.
pub(crate) struct StoredHistories(pub(crate) Arc<EventStore>);

impl Histories for StoredHistories {
    fn oldest_retained(&self, enough: Seq) -> Seq {
        self.0.oldest_retained(enough)
    }

    fn evict(&self, channel: &ChannelName, seq: Seq, draft: &Draft) {
        self.0.evict_removed(channel, seq, draft.finished_len(self.0.position(seq)) as u64);
    }

    fn evict_all_through(&self, last: Seq) {
        self.0.evict_all_through(last);
    }

    fn begin_with(&self, first: Seq) {
        self.0.set_first_on_disk(first);
    }
}

/// What tests hold up and look at.
#[cfg(test)]
impl DiskStage {
    pub(crate) fn hold(&self, is_held: bool) {
        self.gathering.queue.lock().is_held = is_held;
        self.gathering.changed.notify_all();
    }

    /// How many commits wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.gathering.queue.lock().commits.len()
    }
}

impl std::fmt::Debug for DiskStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStage").field("sync", &self.sync).finish_non_exhaustive()
    }
}

/// Bytes of events in one batch; a larger commit is a batch of its own.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How often old segments are looked for.
const KEEPER_INTERVAL: Duration = Duration::from_secs(1);
