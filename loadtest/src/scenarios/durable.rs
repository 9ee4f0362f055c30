//! Publishers that wait for their event to be on disk, and subscribers that get it only then.

use serde::Serialize;

use crate::client::{Expect, Group, PublishPlan};
use crate::closed_loop::ClosedLoop;
use crate::fsync::{self, FsyncUs};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `durable`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Durable {
    /// Kept connections that publish single events to one channel, each waiting for its answer.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    pub publishers: Vec<usize>,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 256)]
    pub payload: usize,
    /// Requests of all publishers together.
    #[arg(long, default_value_t = 40_000)]
    pub requests: u32,
    /// Requests of one publisher that is alone.
    #[arg(long, default_value_t = 2_000)]
    pub requests_alone: u32,
    /// Subscribers of another channel, timed from publish to receive.
    #[arg(long, default_value_t = 100)]
    pub subscribers: usize,
    /// Events a second to these, from one publisher that waits for its answers.
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// Events to these.
    #[arg(long, default_value_t = 500)]
    pub events: u32,
    /// By so much each fsync of the server is delayed; 0 leaves the disk as it is.
    #[arg(long, default_value_t = 0)]
    pub fsync_delay_ms: u32,
}

impl Durable {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("durable", self, subject, progress);
        progress.begin("measuring an fsync", 0);
        let fsync = fsync::measure(self.fsync_delay_ms)?;
        run.figure("fsync_p50_us", fsync.p50 as f64);
        run.figure("fsync_p99_us", fsync.p99 as f64);
        let mut rates = Vec::new();
        for (number, &publishers) in self.publishers.iter().enumerate() {
            let publishers = publishers.max(1);
            let rate = self.publish(&mut run, number, publishers, &fsync)?;
            rates.push((publishers as f64, rate));
        }
        run.series("acknowledged publishes a second", ("publishers", "1/s"), rates);
        self.deliver(run)
    }

    /// Their acknowledged publishes a second.
    fn publish(
        &self,
        run: &mut Run<'_>,
        number: usize,
        publishers: usize,
        fsync: &FsyncUs,
    ) -> Result<f64, Failure> {
        let all = if publishers == 1 { self.requests_alone } else { self.requests };
        let closed_loop = ClosedLoop {
            channel: format!("load-{number}"),
            publishers,
            payload: self.payload,
            batch: 1,
            requests: (all / publishers as u32).max(1),
        };
        let (published, cpu_ns) = closed_loop.run(run)?;
        let (events, elapsed_s) = (published.events as f64, published.elapsed.as_secs_f64());
        let of = format!("{publishers}_publishers");
        let rate = events / elapsed_s;
        run.figure(&format!("publishes_per_s_{of}"), rate);
        // 1 is what a server can do that appends and syncs one event after the other.
        run.figure(&format!("publishes_in_an_fsync_{of}"), rate * fsync.mean / 1e6);
        run.figure(&format!("server_cpu_us_per_event_{of}"), cpu_ns as f64 / 1_000.0 / events);
        if publishers == 1 {
            let p99_us = published.answer_us.value_at_quantile(0.99) as f64;
            run.figure(&format!("answer_p99_in_fsyncs_{of}"), p99_us / fsync.p99.max(1) as f64);
        }
        let answered_us = |quantile| published.answer_us.value_at_quantile(quantile) as f64;
        run.figure(&format!("answer_p50_us_{of}"), answered_us(0.5));
        run.figure(&format!("answer_p99_us_{of}"), answered_us(0.99));
        Ok(rate)
    }

    fn deliver(&self, mut run: Run<'_>) -> Result<Outcome, Failure> {
        let request = (run.subject.subscribe)(run.subject, CHANNEL);
        let group = Group::new(request, Expect::all_of(0), self.subscribers);
        let mut receivers = run.connect(&[group])?;
        let plan = PublishPlan::paced(CHANNEL, 0..self.events, self.rate, self.payload);
        let deliveries = u64::from(self.events) * self.subscribers as u64;
        let checked = run.outcome.verified.deliveries;
        run.broadcast(&mut receivers, plan, deliveries)?;
        let p99_us = run.p99_us();
        run.figure("latency_p99_us", p99_us);
        let mut outcome = run.finish(&mut receivers, |_| self.events)?;
        outcome.verified.deliveries += checked;
        Ok(outcome)
    }
}

const CHANNEL: &str = "load";
