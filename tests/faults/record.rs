//! What publishers and subscribers observed, as lines of JSON in the order in which it happened.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Microseconds since the begin of the run.
    pub(crate) at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub(crate) record: Record,
}

/// What happened. Positions are as the hub wrote them; the data of an event begins with its channel
/// and a space, and no two events of a run have the same data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first line: what was run. Retention has removed nothing if `keeps_all`, and else leaves
    /// `kept_min` events at least.
    Scenario { name: String, seed: u64, keeps_all: bool, kept_min: usize },
    /// A step of the fault.
    Fault { what: String },
    /// Until now the engine may have lost what it had acknowledged since `since_us`, and each such
    /// time is one new epoch at most; exactly one if it `must` be noticed. What was acknowledged
    /// before is kept.
    Loss { what: String, since_us: u64, must: bool },
    /// The fault has to show this, or it was none.
    Expected { effect: Effect },
    /// A publish got an answer of this hub that is not 201; behind a balancer that is the first
    /// one.
    Refusal { hub: usize, status: u16 },
    /// A hub took a publish so long after the fault was mended.
    Recovered { hub: usize, ms: u64, ms_max: u64 },
    /// A publish is sent for the first time.
    Call { publish: u64, events: Vec<String> },
    /// Its last answer, or the lack of one.
    Answer { publish: u64, outcome: Outcome },
    /// A subscriber is there, and starts behind this position, which is that of the oldest event if
    /// it has asked for that.
    Subscriber { who: u64, channels: Vec<String>, start: String, is_earliest: bool },
    /// It connects, by this transport, to this hub.
    Connect { who: u64, by: String, hub: usize },
    /// Its connection is over. It `broke` if neither the subscriber nor the hub has ended it.
    Closed { who: u64, by: String, broke: bool },
    /// It received an event. A stream does not name the channel.
    Event { who: u64, id: String, channel: Option<String>, data: String },
    /// Its position moved without an event.
    Moved { who: u64, id: String },
    /// It received a gap.
    Gap { who: u64, reason: String, requested: String, oldest: String },
    /// It gave up before it had the last events of its channels.
    Stuck { who: u64, why: String },
    /// Something that the interface does not allow.
    Odd { what: String },
    /// An event that a hub has at the end of the run. All hubs that run have the same.
    Log { hub: usize, id: String, channel: String, data: String },
}

/// What a fault has to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effect {
    /// A publish was answered with one of these, by this hub, or by any.
    Status { hub: Option<usize>, any: Vec<u16> },
    /// A subscriber received a gap of this reason.
    Gap { reason: String },
    /// A connection of a subscriber by this transport broke behind this line.
    Broken { by: String },
}

/// How a publish ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// In the log, from this position on, one event behind the other.
    Acked { first: String },
    /// The closing event of a channel is in the log; the answer does not say where.
    Closed,
    /// Not in the log.
    Refused,
    /// In the log or not.
    Unknown,
}

/// Notes what happens, from many tasks.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    began: Instant,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Recorder {
    /// Begins a history.
    pub(crate) fn new(name: &str, seed: u64, kept_min: Option<usize>) -> Self {
        let recorder = Self { began: Instant::now(), lines: Arc::default() };
        let (name, keeps_all) = (name.to_owned(), kept_min.is_none());
        let kept_min = kept_min.unwrap_or_default();
        recorder.note(Record::Scenario { name, seed, keeps_all, kept_min });
        recorder
    }

    /// The time of a line that is noted now.
    pub(crate) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Notes something that happens now. Lines are in the order of their times.
    pub(crate) fn note(&self, record: Record) {
        let mut lines = self.lines.lock();
        let at_us = self.began.elapsed().as_micros() as u64;
        lines.push(Line { at_us, record });
    }

    /// Looks at what there is so far.
    pub(crate) fn with_lines<T>(&self, look: impl FnOnce(&[Line]) -> T) -> T {
        look(&self.lines.lock())
    }

    /// What there is so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().clone()
    }
}

/// Writes a history.
pub(crate) fn write(path: &Path, lines: &[Line]) -> io::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Reads a history.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
}

/// The data of an event that closes a channel, in a history.
pub(crate) fn closing(channel: &str) -> String {
    format!("{channel}{CLOSED}")
}

/// What closing events end with.
pub(crate) const CLOSED: &str = " closed";

/// The channel of an event.
pub(crate) fn channel_of(data: &str) -> &str {
    data.split(' ').next().unwrap_or_default()
}
