//! Long-polls: many wait, all are answered, all ask again.

use std::time::Duration;

use serde::Serialize;

use crate::client::{Item, Pollers, PublishPlan, Publishing, latencies, thread_cpu_ns};
use crate::machine;
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `poll`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Poll {
    /// Polls that wait at a time.
    #[arg(long, default_value_t = 5_000)]
    pub waiting: usize,
    /// Times that all wait, are answered by one event, and ask again once all have it.
    #[arg(long, default_value_t = 5)]
    pub answered: u32,
    /// Times that all are answered without a pause in between; each asks again at once.
    #[arg(long, default_value_t = 20)]
    pub cycles: u32,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
}

impl Poll {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("poll", self, subject, progress);
        machine::check_connections(self.waiting)?;
        let before = run.sample()?;
        progress.begin("asking", self.waiting as u64);
        let mut pollers =
            Pollers::connect(subject, CHANNEL, self.waiting, |asking| progress.at(asking as u64))?;
        run.quiet(&mut |time| pollers.receive_for(time))?;
        let waiting = run.sample()?;
        let each = |now: u64, then: u64| (now as f64 - then as f64) / self.waiting.max(1) as f64;
        let resident = each(waiting.resident_bytes, before.resident_bytes);
        run.figure("server_resident_bytes_per_waiter", resident);
        let slab = each(waiting.slab_bytes, before.slab_bytes);
        run.figure("kernel_slab_bytes_per_waiter_both_ends", slab);

        progress.begin("answering", u64::from(self.answered));
        let mut all_answered_ms = Vec::new();
        let mut latency = latencies();
        for number in 0..self.answered {
            run.quiet(&mut |time| pollers.receive_for(time))?;
            pollers.inbox.latency.reset();
            // What the clients ask meanwhile would take the same cores, and is in the cycles.
            pollers.ask_when_told();
            self.answer_all(subject, &mut pollers, number)?;
            pollers.ask_again()?;
            all_answered_ms.push(pollers.inbox.latency.max() as f64 / 1_000.0);
            latency.add(&pollers.inbox.latency).map_err(|error| {
                Failure::Unsupported(format!("histograms that differ: {error}"))
            })?;
            progress.at(u64::from(number));
        }
        let rounds = all_answered_ms.iter().enumerate().map(|(n, ms)| (n as f64, *ms)).collect();
        run.series("time until all are answered", ("round", "ms"), rounds);
        all_answered_ms.sort_by(f64::total_cmp);
        let median = all_answered_ms.get(all_answered_ms.len() / 2).copied().unwrap_or(0.0);
        run.figure("all_answered_ms", median);
        run.latency(&latency);

        progress.begin("cycles", u64::from(self.cycles));
        run.quiet(&mut |time| pollers.receive_for(time))?;
        let (before, cpu_ns) = (run.sample()?, thread_cpu_ns());
        for number in 0..self.cycles {
            self.answer_all(subject, &mut pollers, self.answered + number)?;
            progress.at(u64::from(number));
        }
        let client_ns = thread_cpu_ns() - cpu_ns;
        // The polls of the last cycle are sent, and belong to it.
        run.quiet(&mut |time| pollers.receive_for(time))?;
        let server_ns = run.sample()?.cpu_ns_since(&before);
        let cycles = f64::from(self.cycles.max(1)) * self.waiting.max(1) as f64;
        run.figure("server_cpu_us_per_cycle", server_ns as f64 / 1_000.0 / cycles);
        run.figure("client_cpu_us_per_cycle", client_ns as f64 / 1_000.0 / cycles);
        let events = self.answered + self.cycles;
        run.outcome.verified = pollers.verify(events)?;
        run.outcome.verified.events = events.into();
        progress.end();
        Ok(run.outcome)
    }

    /// Publishes one event and waits until everyone has it.
    fn answer_all(
        &self,
        subject: &Subject,
        pollers: &mut Pollers,
        number: u32,
    ) -> Result<(), Failure> {
        let item = Item { at_ns: None, channel: 0, stream: 0, first_seq: number, events: 1 };
        let plan = PublishPlan {
            channels: vec![CHANNEL.to_owned()],
            lanes: vec![vec![item]],
            payload: self.payload,
            unanswered_max: 1,
        };
        let answers = pollers.answers() + self.waiting as u64;
        let publishing = Publishing::start(subject, plan)?;
        let all = pollers.receive_until(answers, STALL)?;
        publishing.finish()?;
        if all { Ok(()) } else { pollers.verify(number + 1).map(|_| ()) }
    }
}

const CHANNEL: &str = "load";
const STALL: Duration = Duration::from_secs(10);
