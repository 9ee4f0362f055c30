//! All clients drop at once, miss events, and resume at once by `Last-Event-ID`; if it is asked
//! for, at a hub that was killed meanwhile and has its log on disk.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{CaughtUp, Expect, Group, PublishPlan, Publishing, thread_cpu_ns};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `reconnect-storm`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct ReconnectStorm {
    /// Subscribers.
    #[arg(long, default_value_t = 18_000)]
    pub subscribers: usize,
    /// Events that they miss.
    #[arg(long, default_value_t = 20)]
    pub missed: u32,
    /// Connections that the client makes at a time.
    #[arg(long, default_value_t = 18_000)]
    pub in_flight: usize,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// Kills the hub before they resume, and starts it again. It has a log on disk.
    #[arg(long)]
    pub restart: bool,
}

impl ReconnectStorm {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let restarted;
        let mut run = Run::new("reconnect_storm", self, subject, progress);
        let resume = subject
            .extras
            .resume
            .ok_or_else(|| Failure::Unsupported(format!("{} resumes nothing", subject.name)))?;
        let request = (subject.subscribe)(subject, CHANNEL);
        let group = Group::new(request, Expect::all_of(0), self.subscribers);
        let mut receivers = run.connect(&[group])?;
        receivers.keep_last_ids();
        let plan = |from, to, rate| PublishPlan::paced(CHANNEL, from..to, rate, self.payload);
        run.broadcast(&mut receivers, plan(0, SEEN, 10.0), each(self.subscribers, SEEN))?;

        receivers.close_all();
        let after = SEEN + self.missed;
        let missed = Publishing::start(subject, plan(SEEN, after, 1_000.0))?.finish()?;
        if self.restart {
            let unable = || Failure::Unsupported("only a hub that was started for it".into());
            let restart = subject.restart.as_ref().ok_or_else(unable)?;
            let began = Instant::now();
            restarted = Subject { pids: vec![restart.run()?], ..subject.clone() };
            run.subject = &restarted;
            run.figure("restart_ms", began.elapsed().as_secs_f64() * 1_000.0);
        }
        progress.begin("resuming", self.subscribers as u64);
        receivers.set_in_flight_max(self.in_flight.max(1));
        let (before, cpu_ns) = (run.sample()?, thread_cpu_ns());
        receivers.inbox.latency.reset();
        receivers.caught_up = Some(CaughtUp::start(after));
        let connected = receivers.resume(
            |id| resume(subject, CHANNEL, &String::from_utf8_lossy(id.as_bytes())),
            |count| progress.at(count as u64),
        )?;
        let all = self.subscribers as u64;
        receivers.receive_until(STALL, |receivers| {
            Ok(receivers.caught_up.as_ref().is_none_or(|done| done.times_us.len() >= all))
        })?;
        let (server_ns, client_ns) =
            (run.sample()?.cpu_ns_since(&before), thread_cpu_ns() - cpu_ns);
        let caught_up = receivers.caught_up.take();
        // One more, live: at the joint nothing is missing and nothing comes twice.
        run.broadcast(&mut receivers, plan(after, after + 1, 1.0), all)?;
        run.outcome.series.clear();
        if let Some(caught_up) = caught_up {
            run.series("clients resumed", ("s", "clients"), caught_up.points());
            run.figure("resumed_all_ms", caught_up.times_us.max() as f64 / 1_000.0);
            run.latency(&caught_up.times_us);
        }
        run.figure("resumes_per_s", all as f64 / connected.elapsed.as_secs_f64());
        let per_client = |ns: u64| ns as f64 / 1_000.0 / all.max(1) as f64;
        run.figure("server_cpu_us_per_resume", per_client(server_ns));
        run.figure("client_cpu_us_per_resume", per_client(client_ns));
        run.outcome.verified.events += missed.events;
        run.finish(&mut receivers, |_| after + 1)
    }
}

fn each(subscribers: usize, events: u32) -> u64 {
    subscribers as u64 * u64::from(events)
}

const CHANNEL: &str = "load";
/// Events before the storm, so that everyone has an id.
const SEEN: u32 = 3;
const STALL: Duration = Duration::from_secs(10);
