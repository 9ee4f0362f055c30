//! A client that reads all of a channel's history from disk, beside live subscribers of another.

use serde::Serialize;

use crate::apart::Apart;
use crate::client::{Expect, Group, Item, PublishPlan, Publishing};
use crate::measured::Run;
use crate::open_streams::metrics;
use crate::server_process::Setting;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `history`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct History {
    /// Events that are read from disk.
    #[arg(long, default_value_t = 1_000_000)]
    pub events: u32,
    /// Readers of all of them, in a process of their own.
    #[arg(long, default_value_t = 1)]
    pub readers: usize,
    /// Live subscribers of another channel, which are timed.
    #[arg(long, default_value_t = 1_000)]
    pub live: usize,
    /// Live events a second.
    #[arg(long, default_value_t = 20.0)]
    pub rate: f64,
    /// For how long, alone and beside the readers.
    #[arg(long, default_value_t = 10)]
    pub duration_s: u32,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 200)]
    pub payload: usize,
    /// Bytes of history in memory.
    #[arg(long, default_value_t = 16 << 20)]
    pub memory_bytes: u64,
}

impl History {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("history", self, subject, progress);
        let unable = || Failure::Unsupported(format!("{} keeps no history", subject.name));
        let resume = subject.extras.resume.ok_or_else(unable)?;
        progress.begin("filling the history", u64::from(self.events));
        let filled = Publishing::start(subject, self.filling())?.finish()?;
        run.figure("fill_events_per_s", filled.events as f64 / filled.elapsed.as_secs_f64());
        run.figure("server_resident_bytes_filled", run.sample()?.resident_bytes as f64);

        let live = (self.rate * f64::from(self.duration_s)).max(1.0) as u32;
        let due = u64::from(live) * self.live as u64;
        let request = (subject.subscribe)(subject, LIVE);
        let mut receivers = run.connect(&[Group::new(request, Expect::all_of(0), self.live)])?;
        let plan = |from| PublishPlan::paced(LIVE, from..from + live, self.rate, self.payload);
        run.broadcast(&mut receivers, plan(0), due)?;
        let alone_us = run.p99_us();

        let turns = Turns::of(subject)?;
        let request = resume(subject, HISTORY, "earliest");
        let apart = Apart::start(subject, &request, self.readers, self.events)?;
        run.broadcast(&mut receivers, plan(live), due)?;
        let beside_us = run.p99_us();
        let read = apart.finish()?;
        let turns = Turns::of(subject)?.since(&turns);

        run.figure("latency_p99_us_alone", alone_us);
        run.figure("latency_p99_us_beside_reader", beside_us);
        run.figure("latency_p99_ratio", beside_us / alone_us.max(1.0));
        run.figure("history_read_s", read.elapsed_s);
        let events = f64::from(self.events) * self.readers as f64;
        run.figure("history_events_per_s", events / read.elapsed_s.max(1e-3));
        run.figure("server_resident_bytes_read", run.sample()?.resident_bytes as f64);
        run.figure("shard_turns", turns.all);
        run.figure("shard_turns_over_10_ms", turns.long);
        let mut outcome = run.finish(&mut receivers, |_| 2 * live)?;
        outcome.verified.events += filled.events;
        outcome.verified.deliveries += read.verified.deliveries;
        Ok(outcome)
    }

    /// All events in batches, some of which are under way at a time.
    fn filling(&self) -> PublishPlan {
        let item = |first_seq: u32| {
            let events = BATCH_EVENTS.min(self.events - first_seq);
            Item { at_ns: None, channel: 0, stream: 0, first_seq, events }
        };
        PublishPlan {
            channels: vec![HISTORY.to_owned()],
            lanes: vec![(0..self.events).step_by(BATCH_EVENTS as usize).map(item).collect()],
            payload: self.payload,
            unanswered_max: 8,
        }
    }

    /// As much as there is room for on disk, and little of it in memory.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        vec![
            ("VISNYK_LIMITS__HISTORY__EVENTS_MAX", u32::MAX.to_string()),
            ("VISNYK_LIMITS__HISTORY__BYTES_MAX", (1_u64 << 40).to_string()),
            ("VISNYK_LIMITS__HISTORY__TOTAL_BYTES_MAX", self.memory_bytes.to_string()),
            ("VISNYK_LOG__BYTES_MAX", "0".into()),
        ]
    }
}

/// How many passes the shards' loops have made, and how many took more than 10 ms.
struct Turns {
    all: f64,
    long: f64,
}

impl Turns {
    fn of(subject: &Subject) -> Result<Self, Failure> {
        let text = metrics(subject, "/metrics")?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.trim().parse::<f64>().ok()).ok_or_else(|| {
                Failure::Refused { request: "GET /metrics".into(), answer: format!("no {name}") }
            })
        };
        let all = value("visnyk_shard_turn_seconds_count")?;
        Ok(Self { all, long: all - value("visnyk_shard_turn_seconds_bucket{le=\"0.01\"}")? })
    }

    fn since(&self, before: &Self) -> Self {
        Self { all: self.all - before.all, long: self.long - before.long }
    }
}

const HISTORY: &str = "load-history";
const LIVE: &str = "load-live";
/// What a publish takes by default.
const BATCH_EVENTS: u32 = 100;
