//! The log: the single writer that gives events their order.
//!
//! Parent: the root. Children: none. Mailbox: `Commit` is coalesced, so at most one waits; what
//! is to be committed lies in a queue that the publish permits bound. A crash ends the process:
//! an order that may have been left half-made cannot be trusted.

use std::{sync::Arc, sync::atomic::Ordering};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    batch::{Batch, Run},
    channels::ChannelsMsg,
    shared::Shared,
};
use crate::{
    backend::{ChannelEntry, ChannelId},
    core::{Idempotency, IdempotencyKey, Remembered},
    model::{ChannelName, Draft, Event, EventKind, Position, Seq},
    telemetry::Metrics,
};

/// The actor.
pub(crate) struct Log;

/// Its messages.
#[derive(Debug)]
pub(crate) enum LogMsg {
    /// There are submissions.
    Commit,
    /// A planted fault.
    Panic,
}

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

/// Its state.
pub(crate) struct LogState {
    shared: Arc<Shared>,
    last: Seq,
    answered: Idempotency<Committed>,
}

impl Actor for Log {
    type Msg = LogMsg;
    type State = LogState;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _: ActorRef<LogMsg>,
        shared: Arc<Shared>,
    ) -> Result<LogState, ActorProcessingErr> {
        let publish = &shared.limits().publish;
        let answered = Idempotency::new(
            publish.idempotency_keys_max as usize,
            u64::from(publish.idempotency_s) * 1_000,
        );
        Ok(LogState { last: shared.backend.head(), shared, answered })
    }

    async fn handle(
        &self,
        myself: ActorRef<LogMsg>,
        msg: LogMsg,
        state: &mut LogState,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            LogMsg::Commit => {
                state.shared.log_awake.store(false, Ordering::Release);
                state.commit();
                if !state.shared.submissions.is_empty()
                    && !state.shared.log_awake.swap(true, Ordering::AcqRel)
                {
                    myself.cast(LogMsg::Commit)?;
                }
                Ok(())
            }
            LogMsg::Panic => panic!("planted fault in the log"),
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<LogMsg>,
        _: SupervisionEvent,
        _: &mut LogState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl LogState {
    /// Commits what has been handed in, up to a bound, as one batch.
    fn commit(&mut self) {
        let now_ms = self.shared.clock.now_ms();
        let first = self.last.next();
        let mut runs: Vec<Run> = Vec::new();
        let mut by_channel: FxHashMap<ChannelId, usize> = FxHashMap::default();
        let mut permits = Vec::new();
        let mut answers = Vec::new();
        let mut closed = Vec::new();
        for _ in 0..SUBMISSIONS_PER_BATCH {
            let Some(submission) = self.shared.submissions.pop() else { break };
            if let Some(answer) = self.refuse_or_replay(&submission, now_ms) {
                let _ = submission.reply.send(answer);
                continue;
            }
            let Submission { events, kind, key, permits: held, reply } = submission;
            let mut committed = Committed {
                first: self.position(self.last.next()),
                last: self.position(self.last),
                events: events.len(),
                replayed: false,
            };
            for (entry, draft) in events {
                let event = self.append(&entry, draft, kind, now_ms);
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
        self.shared.backend.commit(self.last);
        // The publishers first: their answer does not wait for the fan-out.
        for (reply, committed) in answers {
            let _ = reply.send(Ok(committed));
        }
        let events: usize = runs.iter().map(|run| run.events.len()).sum();
        let bytes: usize = runs.iter().map(Run::bytes).sum();
        self.shared.metrics.events_published.inc_by(events as u64);
        self.shared.metrics.bytes_published.inc_by(bytes as u64);
        for run in &runs {
            run.entry.touch(now_ms);
            self.shared.attend(&run.entry);
        }
        let batch = Arc::new(Batch::new(first, self.last, runs, permits));
        self.shared.deliver(&batch);
        for entry in closed {
            if let Some(channels) = &self.shared.refs.lock().channels {
                let _ = channels.cast(ChannelsMsg::Closed(entry));
            }
        }
    }

    fn refuse_or_replay(
        &mut self,
        submission: &Submission,
        now_ms: u64,
    ) -> Option<Result<Committed, CommitError>> {
        if let Some(key) = &submission.key {
            match self.answered.look_up(key, now_ms) {
                Remembered::No => {}
                Remembered::Same(answer) => {
                    self.shared.metrics.publishes_replayed.inc();
                    return Some(Ok(Committed { replayed: true, ..answer }));
                }
                Remembered::Other => return Some(Err(CommitError::KeyReused)),
            }
        }
        let closed = submission.events.iter().find(|(entry, _)| entry.is_closed())?;
        Metrics::count(&self.shared.metrics.publishes_refused, "closed");
        Some(Err(CommitError::Closed(closed.0.name().clone())))
    }

    fn append(
        &mut self,
        entry: &Arc<ChannelEntry>,
        draft: Draft,
        kind: EventKind,
        time_ms: u64,
    ) -> Arc<Event> {
        self.last = self.last.next();
        let position = self.position(self.last);
        let event = Arc::new(Event {
            seq: self.last,
            epoch: position.epoch,
            time_ms,
            channel: entry.name().clone(),
            kind,
            frame: draft.finish(position),
        });
        self.shared.backend.append(entry, &event);
        event
    }

    fn position(&self, seq: Seq) -> Position {
        self.shared.backend.position(seq)
    }
}

/// Submissions gathered into one batch.
const SUBMISSIONS_PER_BATCH: usize = 256;
