//! How many subscribers of a channel the other hubs of a shared log have. Requests wait here until
//! the bridge has asked the server.

use std::{mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout,
};

use crate::{model::ChannelName, telemetry::BackendMetrics};

/// The questions of one hub.
pub(crate) struct SharedCounts {
    /// The name of this process in the reports of hubs.
    hub: String,
    asked: Mutex<Asked>,
    arrived: Notify,
    leaving: watch::Sender<Leaving>,
    metrics: Arc<BackendMetrics>,
}

#[derive(Default)]
struct Asked {
    is_connected: bool,
    waiting: Vec<Question>,
}

/// The question of a request.
pub(super) struct Question {
    pub(super) channel: ChannelName,
    pub(super) answer: oneshot::Sender<Elsewhere>,
}

/// What the other hubs have reported of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) streams: u32,
    pub(crate) pollers: u32,
    /// Whether some of these hubs have subscribers that name the channel, so that it exists.
    pub(crate) is_named: bool,
    /// How many hubs have reported.
    pub(crate) hubs: u32,
    /// How many of these hubs have more subscriptions than they report: they may have subscribers
    /// of this channel.
    pub(crate) hubs_unknown: u32,
    /// The age of the oldest report, in milliseconds.
    pub(crate) age_ms: u64,
    /// Whether all hubs have had time to report since the server could be reached again.
    pub(crate) is_settled: bool,
}

/// Why the other hubs are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uncounted {
    /// The server cannot be reached.
    Away,
    /// It did not answer in time.
    Late,
    /// Too many requests ask at the same time.
    Busy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    Due,
    Done,
}

impl SharedCounts {
    pub(super) fn new(metrics: Arc<BackendMetrics>) -> Self {
        Self {
            hub: format!("{:016x}", fastrand::u64(..)),
            asked: Mutex::default(),
            arrived: Notify::new(),
            leaving: watch::Sender::new(Leaving::No),
            metrics,
        }
    }

    /// The name of this process in the reports of hubs.
    pub(super) fn hub(&self) -> &str {
        &self.hub
    }

    /// Asks what the other hubs have reported of a channel.
    pub(crate) async fn elsewhere(&self, channel: &ChannelName) -> Result<Elsewhere, Uncounted> {
        let asked = self.ask(channel);
        let answered = match asked {
            // The bridge drops questions that it could not ask.
            Ok(answer) => match timeout(ANSWER_WAIT, answer).await {
                Ok(answer) => answer.map_err(|_| Uncounted::Away),
                Err(_) => Err(Uncounted::Late),
            },
            Err(why) => Err(why),
        };
        answered.inspect_err(|why| self.metrics.count_uncounted(why.as_str()))
    }

    fn ask(&self, channel: &ChannelName) -> Result<oneshot::Receiver<Elsewhere>, Uncounted> {
        let mut asked = self.asked.lock();
        if !asked.is_connected {
            return Err(Uncounted::Away);
        }
        if asked.waiting.len() >= WAITING_MAX {
            return Err(Uncounted::Busy);
        }
        let (answer, receiver) = oneshot::channel();
        asked.waiting.push(Question { channel: channel.clone(), answer });
        drop(asked);
        self.arrived.notify_one();
        Ok(receiver)
    }

    /// Notes whether questions can be answered. If not, those that wait are dropped.
    pub(super) fn set_connected(&self, is_connected: bool) {
        let mut asked = self.asked.lock();
        asked.is_connected = is_connected;
        if !is_connected {
            asked.waiting.clear();
        }
    }

    /// Waits for questions, and takes as many as one command asks. Cancelling it has no effect.
    pub(super) async fn questions(&self) -> Vec<Question> {
        loop {
            let questions = self.take_questions();
            if !questions.is_empty() {
                return questions;
            }
            self.arrived.notified().await;
        }
    }

    fn take_questions(&self) -> Vec<Question> {
        let mut asked = self.asked.lock();
        // A request that has ended needs no answer.
        asked.waiting.retain(|question| !question.answer.is_closed());
        let count = ASKED_MAX.min(asked.waiting.len());
        let rest = asked.waiting.split_off(count);
        mem::replace(&mut asked.waiting, rest)
    }

    /// Removes the report of this hub, which ends; it expires by itself if that takes too long.
    pub(super) async fn leave(&self) {
        if !self.asked.lock().is_connected {
            return;
        }
        let mut leaving = self.leaving.subscribe();
        self.leaving.send_replace(Leaving::Due);
        let _ = timeout(LEAVE_WAIT, leaving.wait_for(|now| *now == Leaving::Done)).await;
    }

    /// Waits until this hub ends. Cancelling the wait has no effect.
    pub(super) async fn left(&self) {
        // The sender is here.
        let _ = self.leaving.subscribe().wait_for(|now| *now == Leaving::Due).await;
    }

    /// Notes that the report of this hub is removed.
    pub(super) fn has_left(&self) {
        self.leaving.send_replace(Leaving::Done);
    }

    /// Whether this hub has ended its reports.
    pub(super) fn is_gone(&self) -> bool {
        *self.leaving.borrow() == Leaving::Done
    }
}

impl Uncounted {
    /// The word for it in answers and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Away => "backend_away",
            Self::Late => "late",
            Self::Busy => "busy",
        }
    }
}

/// The most questions that wait; a further one gets no answer.
const WAITING_MAX: usize = 1_024;
/// Channels of one command.
const ASKED_MAX: usize = 64;
/// How long a question waits for its answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How long a hub that ends waits for the server.
const LEAVE_WAIT: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_answered_or_says_why_not() {
        let counts = SharedCounts::new(Arc::default());
        let channel = ChannelName::parse("a").expect("a name");
        assert_eq!(counts.elsewhere(&channel).await, Err(Uncounted::Away), "not connected");
        counts.set_connected(true);
        let reported = Elsewhere { streams: 3, hubs: 1, ..Elsewhere::default() };
        let (answer, ()) = tokio::join!(counts.elsewhere(&channel), async {
            for question in counts.questions().await {
                question.answer.send(reported).expect("it waits");
            }
        });
        assert_eq!(answer, Ok(reported));
        assert_eq!(counts.elsewhere(&channel).await, Err(Uncounted::Late));
        let waiting: Vec<_> = (0..WAITING_MAX - 1).map(|_| counts.ask(&channel)).collect();
        assert_eq!(counts.asked.lock().waiting.len(), WAITING_MAX, "the late one is among them");
        assert!(matches!(counts.ask(&channel), Err(Uncounted::Busy)));
        drop(waiting.into_iter().nth(5));
        assert!(counts.ask(&channel).is_err(), "it stays full until the bridge has looked");
        counts.asked.lock().waiting.clear();
        let (broken, ()) = tokio::join!(counts.elsewhere(&channel), async {
            counts.set_connected(false);
        });
        assert_eq!(broken, Err(Uncounted::Away));
    }

    #[tokio::test(start_paused = true)]
    async fn one_command_asks_for_a_bounded_number_of_channels() {
        let counts = SharedCounts::new(Arc::default());
        counts.set_connected(true);
        let channel = ChannelName::parse("a").expect("a name");
        let waiting: Vec<_> = (0..ASKED_MAX + 2).map(|_| counts.ask(&channel)).collect();
        assert_eq!(counts.questions().await.len(), ASKED_MAX);
        assert_eq!(counts.questions().await.len(), 2);
        drop(waiting);
    }
}
