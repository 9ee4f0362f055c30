//! A client that reads all of a channel's history from disk, beside live subscribers of another;
//! and clients that resume a hundred events from its end and from its midst, held against the same
//! on a channel with few events.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::apart::Apart;
use crate::client::{Expect, Group, Item, PublishPlan, Publishing, latencies};
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
        // First, so that all of it has left memory when the other is filled.
        let small = SMALL_EVENTS.min(self.events);
        let small = Publishing::start(subject, self.filling(SMALL, small))?.finish()?;
        self.resume(&mut run, SMALL, "of_10000", &[ResumePoint::End])?;
        let filled = Publishing::start(subject, self.filling(HISTORY, self.events))?.finish()?;
        run.figure("fill_events_per_s", filled.events as f64 / filled.elapsed.as_secs_f64());
        run.figure("server_resident_bytes_filled", run.sample()?.resident_bytes as f64);
        self.resume(&mut run, HISTORY, "of_all", &ALL_POINTS)?;
        self.resume(&mut run, SMALL, "of_10000", &[ResumePoint::Midst])?;
        for point in ["end", "midst"] {
            let median = |of| run.outcome.figures[&format!("resume_100_ms_{point}_{of}_p50")];
            let ratio = median("of_all") / median("of_10000").max(1e-3);
            run.figure(&format!("resume_100_ratio_{point}"), ratio);
        }

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
        outcome.verified.events += small.events + filled.events;
        outcome.verified.deliveries += read.verified.deliveries;
        Ok(outcome)
    }

    /// Resumes a hundred events from each point of a channel, a number of times, and notes how long
    /// it takes until the last of the hundred is there.
    fn resume(
        &self,
        run: &mut Run<'_>,
        channel: &str,
        of: &str,
        points: &[ResumePoint],
    ) -> Result<(), Failure> {
        let ids = Ids::of(run.subject, channel)?;
        let resume = run.subject.extras.resume.expect("it was there before");
        for point in points {
            let mut times = latencies();
            for index in 0..RESUMES {
                let after = ids.after(*point, index);
                let request = resume(run.subject, channel, &ids.id(after));
                let last = format!("id: {}\n", ids.id(after + RESUMED_EVENTS));
                times.saturating_record(time_until(run.subject, &request, last.as_bytes())?);
            }
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let ms = times.value_at_quantile(quantile) as f64 / 1_000.0;
                run.figure(&format!("resume_100_ms_{}_{of}_{name}", point.name()), ms);
            }
        }
        Ok(())
    }

    /// All events in batches, some of which are under way at a time.
    fn filling(&self, channel: &str, events: u32) -> PublishPlan {
        let item = |first_seq: u32| {
            let events = BATCH_EVENTS.min(events - first_seq);
            Item { at_ns: None, channel: 0, stream: 0, first_seq, events }
        };
        PublishPlan {
            channels: vec![channel.to_owned()],
            lanes: vec![(0..events).step_by(BATCH_EVENTS as usize).map(item).collect()],
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

/// Where in a channel a client resumes.
#[derive(Clone, Copy)]
enum ResumePoint {
    /// In memory.
    End,
    /// Another point each time, on disk once enough was published behind it.
    Midst,
}

impl ResumePoint {
    fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Midst => "midst",
        }
    }
}

/// The positions of a channel's events, whose numbers are without a hole.
struct Ids {
    epoch: String,
    first: u64,
    last: u64,
}

impl Ids {
    fn of(subject: &Subject, channel: &str) -> Result<Self, Failure> {
        let path = format!("/v1/channels/{channel}");
        let text = metrics(subject, &path)?;
        let info: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let parts = |name: &str| {
            let (epoch, seq) = info[name].as_str()?.rsplit_once('-')?;
            Some((epoch.to_owned(), seq.parse().ok()?))
        };
        match (parts("first_id"), parts("last_id")) {
            (Some((epoch, first)), Some((_, last))) if last >= first + 2 * RESUMED_EVENTS => {
                Ok(Self { epoch, first, last })
            }
            _ => Err(Failure::Refused { request: format!("GET {path}"), answer: text }),
        }
    }

    fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.epoch)
    }

    /// The event after which the resume of this number begins.
    fn after(&self, point: ResumePoint, index: u64) -> u64 {
        let all = self.last - RESUMED_EVENTS;
        match point {
            ResumePoint::End => all,
            // In the second and third quarter.
            ResumePoint::Midst => {
                let quarter = (all - self.first) / 4;
                self.first + quarter + 2 * quarter * index / RESUMES
            }
        }
    }
}

/// Microseconds from the connect until these bytes come, and no gap before them.
fn time_until(subject: &Subject, request: &[u8], wanted: &[u8]) -> Result<u64, Failure> {
    let started = Instant::now();
    let failed = Failure::io("resuming");
    let read = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(subject.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALL))?;
        stream.write_all(request)?;
        let (mut received, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let from = received.len().saturating_sub(wanted.len());
            received.extend_from_slice(&buffer[..count]);
            if received[from..].windows(wanted.len()).any(|window| window == wanted) {
                let has_gap = received.windows(GAP.len()).any(|window| window == GAP);
                return if has_gap { Err(std::io::Error::other("a gap")) } else { Ok(()) };
            }
        }
    };
    read().map_err(failed)?;
    Ok(started.elapsed().as_micros() as u64)
}

const GAP: &[u8] = b"event: visnyk.gap";

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
/// With few events.
const SMALL: &str = "load-history-small";
const SMALL_EVENTS: u32 = 10_000;
const RESUMED_EVENTS: u64 = 100;
/// At each point.
const RESUMES: u64 = 30;
const ALL_POINTS: [ResumePoint; 2] = [ResumePoint::End, ResumePoint::Midst];
const STALL: Duration = Duration::from_secs(20);
/// What a publish takes by default.
const BATCH_EVENTS: u32 = 100;
