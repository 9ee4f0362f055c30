//! Answers to publishes that were sent to the shared log. Each waits until this hub has shown the
//! events that it refers to, or until its time is over.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    fan_out_trace::TracedEvents,
    submission::{AppendError, Committed, Reply},
};
use crate::{
    model::{Epoch, Position, Seq},
    redis::{Fence, Nonce, Run, SubmissionOutcome},
    telemetry::PublishTrace,
};

/// The publisher's reply channel and permits.
pub(super) struct ReplyTo {
    pub(super) reply: Reply,
    pub(super) permits: Vec<OwnedSemaphorePermit>,
}

/// The answers of a stage. Their number is bounded by the permits they hold.
pub(super) struct Answers {
    /// Up to here this hub has shown the log.
    shown: Seq,
    /// The epoch of `shown`; none while the log is reloaded because it lost events.
    epoch: Option<Epoch>,
    /// The run of the server that this hub follows: the log may not have what another run has
    /// appended.
    run: Run,
    /// Answers with a known outcome, ordered by the seq that they wait for.
    known: VecDeque<KnownAnswer>,
    /// Publishes with an unknown outcome, by the nonce of their first entry. If that entry is seen
    /// in the log, the publish was appended.
    unresolved: HashMap<Nonce, Unresolved>,
    /// The first entries of the publishes of the append under way, and where they were seen in the
    /// log before its answer.
    sent: HashMap<Nonce, Option<(Epoch, Seq)>>,
    /// Traced publishes whose events are not shown yet, by the nonce of their first entry. They are
    /// apart from the answers, since events may be shown before their append is answered.
    traced: HashMap<Nonce, TracedAppend>,
}

/// An answer that waits until this hub has shown the log up to `at`.
pub(super) struct KnownAnswer {
    at: Seq,
    since: Instant,
    pub(super) outcome: Result<Committed, AppendError>,
    first_nonce: Nonce,
    pub(super) reply_to: ReplyTo,
}

struct TracedAppend {
    trace: Arc<PublishTrace>,
    events: usize,
    since: Instant,
}

struct Unresolved {
    events: usize,
    since: Instant,
    reply_to: ReplyTo,
}

impl Answers {
    /// Answers of a hub that has shown the log up to `fence`, from server run `run`.
    pub(super) fn new(fence: Fence, run: Run) -> Self {
        Self {
            shown: fence.seq,
            epoch: Some(fence.epoch),
            run,
            known: VecDeque::new(),
            unresolved: HashMap::new(),
            sent: HashMap::new(),
            traced: HashMap::new(),
        }
    }

    /// Notes that an append begins. Its entries may be seen in the log before its answer, which may
    /// never come.
    pub(super) fn begin_append(&mut self, first_nonces: impl Iterator<Item = Nonce>) {
        self.sent = first_nonces.map(|nonce| (nonce, None)).collect();
    }

    /// Notes that the append has an outcome, or will never have one.
    pub(super) fn end_append(&mut self) {
        self.sent.clear();
    }

    /// Adds the outcome of a publish, by a run of the server whose log ended at `last`.
    pub(super) fn add(
        &mut self,
        outcome: SubmissionOutcome,
        (epoch, run, last): (Epoch, &Run, Seq),
        first_nonce: Nonce,
        reply_to: ReplyTo,
    ) {
        let outcome = match outcome {
            SubmissionOutcome::Taken { first, events } => {
                Ok(committed(epoch, first, events as usize, false))
            }
            SubmissionOutcome::Replayed { first, events } => {
                Ok(committed(epoch, first, events as usize, true))
            }
            SubmissionOutcome::KeyReused => Err(AppendError::KeyReused),
            SubmissionOutcome::Closed(channel) => Err(AppendError::Closed(channel)),
            SubmissionOutcome::Full => Err(AppendError::StorageFull),
        };
        let at = match &outcome {
            Ok(committed) if !committed.replayed => committed.last.seq,
            _ => last,
        };
        let since = Instant::now();
        let mut known = KnownAnswer { at, since, outcome, first_nonce, reply_to };
        if self.epoch != Some(epoch) {
            known.lose();
        }
        match self.follows(run) {
            true => self.insert(known),
            false => self.look_for(known),
        }
    }

    /// Adds a publish with an unknown outcome.
    pub(super) fn add_unresolved(&mut self, first_nonce: Nonce, events: usize, reply_to: ReplyTo) {
        let unresolved = Unresolved { events, since: Instant::now(), reply_to };
        self.unresolved.insert(first_nonce, unresolved);
        if let Some(Some((epoch, seq))) = self.sent.remove(&first_nonce) {
            self.found(&first_nonce, epoch, seq);
        }
    }

    /// Adds a traced publish of the append that begins.
    pub(super) fn trace(&mut self, first_nonce: Nonce, events: usize, trace: Arc<PublishTrace>) {
        self.traced.insert(first_nonce, TracedAppend { trace, events, since: Instant::now() });
    }

    /// Takes the traced publish that begins with an entry that is being shown.
    pub(super) fn take_traced(&mut self, nonce: &Nonce, seq: Seq) -> Option<TracedEvents> {
        // Fast path: usually no publish is traced.
        if self.traced.is_empty() {
            return None;
        }
        let TracedAppend { trace, events, .. } = self.traced.remove(nonce)?;
        Some(TracedEvents { trace, first: seq, last: Seq(seq.0 + events as u64 - 1) })
    }

    /// Notes that an entry is in the log, which gives its publish an outcome if that was unknown.
    pub(super) fn found(&mut self, nonce: &Nonce, epoch: Epoch, seq: Seq) {
        if let Some(seen) = self.sent.get_mut(nonce) {
            *seen = Some((epoch, seq));
        }
        if let Some(Unresolved { events, since, reply_to }) = self.unresolved.remove(nonce) {
            let outcome = Ok(committed(epoch, seq, events, false));
            let at = Seq(seq.0 + events as u64 - 1);
            self.insert(KnownAnswer { at, since, outcome, first_nonce: *nonce, reply_to });
        }
    }

    /// Adds an answer in the order of the seqs that they wait for. Usually it becomes the last.
    fn insert(&mut self, known: KnownAnswer) {
        let index = self.known.partition_point(|other| other.at <= known.at);
        self.known.insert(index, known);
    }

    /// Whether this run of the server is the one that is followed.
    pub(super) fn follows(&self, run: &Run) -> bool {
        self.run == *run
    }

    /// Sets the run of the server that the connection follows. An outcome by another run counts
    /// once its entry is found in the log of this one.
    pub(super) fn follow(&mut self, run: &Run) {
        if self.follows(run) {
            return;
        }
        self.run = Run::clone(run);
        for known in mem::take(&mut self.known) {
            self.look_for(known);
        }
    }

    /// Notes that the log lost events, perhaps those of known outcomes, which become
    /// [`Unknown`](AppendError::Unknown).
    pub(super) fn lose(&mut self) {
        self.epoch = None;
        self.known.iter_mut().for_each(KnownAnswer::lose);
        self.sent.values_mut().for_each(|seen| *seen = None);
    }

    /// Notes that this hub has shown the log up to the fence, and takes the answers that are due.
    pub(super) fn show(&mut self, fence: Fence) -> Vec<KnownAnswer> {
        (self.shown, self.epoch) = (fence.seq, Some(fence.epoch));
        self.take_shown()
    }

    /// Takes the answers whose events are shown.
    pub(super) fn take_shown(&mut self) -> Vec<KnownAnswer> {
        self.take_through(self.shown)
    }

    /// Takes the answers that are due once the log is shown up to `seq`.
    pub(super) fn take_through(&mut self, seq: Seq) -> Vec<KnownAnswer> {
        let due = self.known.iter().take_while(|known| known.at <= seq).count();
        self.known.drain(..due).collect()
    }

    /// Takes known answers older than `wait`; drops unknown outcomes older than `outcome_wait`.
    pub(super) fn take_late(&mut self, wait: Duration, outcome_wait: Duration) -> Vec<KnownAnswer> {
        let now = Instant::now();
        self.unresolved.retain(|_, publish| now.duration_since(publish.since) < outcome_wait);
        self.traced.retain(|_, traced| now.duration_since(traced.since) < outcome_wait);
        let is_due = |known: &KnownAnswer| now.duration_since(known.since) >= wait;
        // They are ordered by seq, not by time.
        let (late, known): (Vec<_>, Vec<_>) =
            mem::take(&mut self.known).into_iter().partition(is_due);
        self.known = known.into();
        late
    }

    /// Whether no known answer waits.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Drops all answers; their publishers get [`Unknown`](AppendError::Unknown).
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.unresolved.clear();
        self.sent.clear();
        self.traced.clear();
    }

    /// Handles an outcome by another run of the server than the one that is followed. A new append
    /// becomes unknown until its first entry is found in the followed log. A replayed outcome
    /// becomes [`Unknown`](AppendError::Unknown), since its entries may be missing there.
    fn look_for(&mut self, mut known: KnownAnswer) {
        match known.outcome {
            Ok(Committed { events, replayed: false, .. }) => {
                let KnownAnswer { since, first_nonce, reply_to, .. } = known;
                self.unresolved.insert(first_nonce, Unresolved { events, since, reply_to });
            }
            Ok(Committed { replayed: true, .. }) => {
                known.lose();
                known.at = Seq::ZERO;
                self.insert(known);
            }
            // Its seq is one of another run's log, so do not wait for it.
            Err(_) => {
                known.at = Seq::ZERO;
                self.insert(known);
            }
        }
    }
}

impl KnownAnswer {
    /// Sends the answer; the publisher may have gone.
    pub(super) fn send(self) {
        let _ = self.reply_to.reply.send(self.outcome);
    }

    /// Makes a success unknown: its events may be lost.
    fn lose(&mut self) {
        if self.outcome.is_ok() {
            self.outcome = Err(AppendError::Unknown);
        }
    }
}

fn committed(epoch: Epoch, first: Seq, events: usize, replayed: bool) -> Committed {
    let at = |seq| Position { epoch, seq };
    let last = Seq(first.0 + (events as u64).saturating_sub(1));
    Committed { first: at(first), last: at(last), events, replayed }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    type Answer = oneshot::Receiver<Result<Committed, AppendError>>;

    const NONCE: Nonce = [1; 8];

    fn epoch(n: u64) -> Epoch {
        Epoch::after(None, n, 0)
    }

    fn run(name: &str) -> Run {
        Run::from(name)
    }

    fn fence(seq: u64) -> Fence {
        Fence { epoch: epoch(1), seq: Seq(seq), nonce: None }
    }

    fn reply_to() -> (ReplyTo, Answer) {
        let (reply, answer) = oneshot::channel();
        (ReplyTo { reply, permits: Vec::new() }, answer)
    }

    /// Answers that have shown the log up to seq 10 of run `a`, and one of them by this run.
    fn with_answer(by: &str, outcome: SubmissionOutcome) -> (Answers, Answer) {
        let mut answers = Answers::new(fence(10), run("a"));
        let (reply_to, answer) = reply_to();
        answers.add(outcome, (epoch(1), &run(by), Seq(12)), NONCE, reply_to);
        (answers, answer)
    }

    fn taken() -> SubmissionOutcome {
        SubmissionOutcome::Taken { first: Seq(11), events: 2 }
    }

    fn send(due: Vec<KnownAnswer>) {
        due.into_iter().for_each(KnownAnswer::send);
    }

    fn is_waiting(answer: &mut Answer) -> bool {
        answer.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    #[tokio::test]
    async fn an_append_is_answered_once_its_last_event_is_shown() {
        let (mut answers, mut answer) = with_answer("a", taken());
        send(answers.show(fence(11)));
        assert!(is_waiting(&mut answer));
        send(answers.show(fence(12)));
        let committed = answer.await.expect("an answer").expect("it was taken");
        assert_eq!((committed.first.seq, committed.last.seq), (Seq(11), Seq(12)));
    }

    #[tokio::test]
    async fn what_is_found_lost_before_it_is_shown_has_an_unknown_outcome() {
        let (mut answers, answer) = with_answer("a", taken());
        answers.lose();
        send(answers.take_through(Seq(u64::MAX)));
        assert_eq!(answer.await.expect("an answer"), Err(AppendError::Unknown));
        // The same of an answer that comes while the log is loaded anew.
        let (reply_to, answer) = reply_to();
        answers.add(taken(), (epoch(1), &run("a"), Seq(12)), NONCE, reply_to);
        send(answers.take_through(Seq(u64::MAX)));
        assert_eq!(answer.await.expect("an answer"), Err(AppendError::Unknown));
    }

    #[tokio::test]
    async fn what_another_server_took_counts_once_it_is_found_here() {
        let (mut answers, mut answer) = with_answer("b", taken());
        send(answers.show(fence(20)));
        assert!(is_waiting(&mut answer), "it may not be in this log");
        answers.found(&NONCE, epoch(1), Seq(21));
        send(answers.show(fence(22)));
        assert_eq!(answer.await.expect("an answer").expect("found").first.seq, Seq(21));
    }

    #[tokio::test]
    async fn what_was_shown_before_its_answer_broke_off_was_taken() {
        let mut answers = Answers::new(fence(10), run("a"));
        answers.begin_append([NONCE, [2; 8]].into_iter());
        answers.found(&NONCE, epoch(1), Seq(11));
        send(answers.show(fence(12)));
        let (shown, answer) = reply_to();
        answers.add_unresolved(NONCE, 2, shown);
        let (lost, mut unseen) = reply_to();
        answers.add_unresolved([2; 8], 1, lost);
        send(answers.take_shown());
        let committed = answer.await.expect("an answer").expect("it is in the log");
        assert_eq!((committed.first.seq, committed.last.seq), (Seq(11), Seq(12)));
        assert!(is_waiting(&mut unseen), "it may come");
        // What is lost since does not count as seen.
        answers.begin_append([NONCE].into_iter());
        answers.found(&NONCE, epoch(1), Seq(13));
        answers.lose();
        let (shown, mut answer) = reply_to();
        answers.add_unresolved(NONCE, 1, shown);
        send(answers.show(Fence { epoch: epoch(2), ..fence(20) }));
        assert!(is_waiting(&mut answer), "only the new log can tell");
    }

    #[tokio::test]
    async fn an_answer_that_came_leaves_nothing_behind() {
        let mut answers = Answers::new(fence(10), run("a"));
        answers.begin_append([NONCE].into_iter());
        answers.found(&NONCE, epoch(1), Seq(11));
        answers.end_append();
        let (reply_to, mut answer) = reply_to();
        answers.add_unresolved(NONCE, 1, reply_to);
        send(answers.show(fence(12)));
        assert!(is_waiting(&mut answer));
    }

    #[tokio::test]
    async fn what_waits_is_looked_for_when_another_server_is_followed() {
        let (mut answers, mut answer) = with_answer("a", taken());
        answers.follow(&run("b"));
        send(answers.show(fence(20)));
        assert!(is_waiting(&mut answer));
        send(answers.take_late(Duration::ZERO, Duration::ZERO));
        assert!(answer.await.is_err(), "it was never found: the outcome is open");
    }

    #[tokio::test]
    async fn no_answer_waits_for_the_events_of_a_later_one() {
        let (mut answers, mut refused) = with_answer("a", SubmissionOutcome::KeyReused);
        let (reply_to, mut taken) = reply_to();
        let outcome = SubmissionOutcome::Taken { first: Seq(11), events: 1 };
        answers.add(outcome, (epoch(1), &run("a"), Seq(12)), [2; 8], reply_to);
        send(answers.show(fence(11)));
        assert!(taken.try_recv().expect("an answer").is_ok());
        assert!(is_waiting(&mut refused), "the event that it refers to may be the next one");
        send(answers.show(fence(12)));
        assert_eq!(refused.await.expect("an answer"), Err(AppendError::KeyReused));
    }

    #[tokio::test]
    async fn a_refusal_by_a_server_that_is_not_followed_waits_for_nothing() {
        let (mut answers, mut answer) = with_answer("b", SubmissionOutcome::KeyReused);
        send(answers.take_shown());
        assert_eq!(answer.try_recv().expect("an answer"), Err(AppendError::KeyReused));
    }

    #[tokio::test]
    async fn an_earlier_answer_repeated_by_a_server_that_is_not_followed_is_unknown() {
        let repeated = || SubmissionOutcome::Replayed { first: Seq(3), events: 1 };
        let (mut answers, answer) = with_answer("b", repeated());
        send(answers.take_shown());
        assert_eq!(answer.await.expect("an answer"), Err(AppendError::Unknown));
        let (mut answers, answer) = with_answer("a", repeated());
        send(answers.show(fence(12)));
        assert!(answer.await.expect("an answer").expect("it was taken before").replayed);
    }
}
