//! Publishers alone: how many events a second the server takes, and what each costs.

use serde::Serialize;

use crate::closed_loop::ClosedLoop;
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `publish`: every combination is run.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Publish {
    /// Kept connections, each of which waits for its answers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    pub publishers: Vec<usize>,
    /// Bytes of data in each event.
    #[arg(long, value_delimiter = ',', default_values_t = [128, 4_096])]
    pub payload: Vec<usize>,
    /// Events in a request.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    pub batch: Vec<u32>,
    /// Requests in each combination.
    #[arg(long, default_value_t = 20_000)]
    pub requests: u32,
}

impl Publish {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("publish", self, subject, progress);
        for &publishers in &self.publishers {
            for &payload in &self.payload {
                for &batch in &self.batch {
                    self.combination(&mut run, publishers.max(1), payload, batch)?;
                }
            }
        }
        progress.end();
        Ok(run.outcome)
    }

    fn combination(
        &self,
        run: &mut Run<'_>,
        publishers: usize,
        payload: usize,
        batch: u32,
    ) -> Result<(), Failure> {
        let name = format!("{publishers}_publishers_{payload}_bytes_batch_{batch}");
        // Batches are large: a hundredth of the requests has as many events.
        let requests = (self.requests / batch).max(publishers as u32) / publishers as u32;
        let closed_loop =
            ClosedLoop { channel: name.clone(), publishers, payload, batch, requests };
        let (published, spent_ns) = closed_loop.run(run)?;
        let events = published.events as f64;
        run.figure(&format!("events_per_s_{name}"), events / published.elapsed.as_secs_f64());
        run.figure(&format!("server_cpu_us_per_event_{name}"), spent_ns as f64 / 1_000.0 / events);
        let p99 = published.answer_us.value_at_quantile(0.99) as f64;
        run.figure(&format!("answer_p99_us_{name}"), p99);
        Ok(())
    }
}
