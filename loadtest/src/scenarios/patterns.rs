//! Pattern subscriptions, all different: what a publish costs when there are many.

use serde::Serialize;

use crate::client::{Expect, Group, Item, PublishPlan};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `patterns`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Patterns {
    /// Pattern subscriptions in each step.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 100, 1_000, 10_000])]
    pub patterns: Vec<usize>,
    /// Patterns that one connection subscribes to.
    #[arg(long, default_value_t = 100)]
    pub per_connection: usize,
    /// Channels that are published to; each matches one pattern.
    #[arg(long, default_value_t = 100)]
    pub channels: usize,
    /// Events to each channel.
    #[arg(long, default_value_t = 20)]
    pub events: u32,
    /// Events a second to all channels together.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
}

impl Patterns {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("patterns", self, subject, progress);
        let (mut cost, mut memory) = (Vec::new(), Vec::new());
        for &patterns in &self.patterns {
            let event_us = self.step(&mut run, patterns)?;
            let resident = run.outcome.figures.get("server_resident_bytes").copied();
            // An axis by powers of ten has no zero.
            if patterns > 0 {
                cost.push((patterns as f64, event_us));
                memory.push((patterns as f64, resident.unwrap_or(0.0)));
            }
            run.figure(&format!("server_cpu_us_per_event_with_{patterns}_patterns"), event_us);
        }
        run.outcome.series.clear();
        run.series("CPU of an event", ("patterns", "us"), cost);
        run.series("server's resident memory", ("patterns", "bytes"), memory);
        progress.end();
        Ok(run.outcome)
    }

    /// What an event costs with so many patterns, in microseconds.
    fn step(&self, run: &mut Run<'_>, patterns: usize) -> Result<f64, Failure> {
        let subscribe =
            run.subject.extras.subscribe_many.ok_or_else(|| {
                Failure::Unsupported(format!("{} has no patterns", run.subject.name))
            })?;
        let per_connection = self.per_connection.max(1);
        let groups: Vec<Group> = (0..patterns)
            .step_by(per_connection)
            .map(|first| {
                let numbers = first..patterns.min(first + per_connection);
                let names: Vec<String> =
                    numbers.clone().map(|number| format!("load/{number}/*")).collect();
                let streams = numbers.filter(|number| *number < self.channels);
                let expect = Expect::all_of_many(streams.map(|number| number as u32));
                Group::new(subscribe(run.subject, &names), expect, 1)
            })
            .collect();
        let mut receivers = run.connect(&groups)?;
        let matched = self.channels.min(patterns) as u64;
        // The first event of a channel looks for the patterns that match it; then it is known.
        run.broadcast(&mut receivers, self.plan(0..1), matched)?;
        run.broadcast(
            &mut receivers,
            self.plan(1..self.events + 1),
            matched * u64::from(self.events),
        )?;
        let verified = receivers.verify(|_| self.events + 1)?;
        run.outcome.verified.deliveries += verified.deliveries;
        Ok(run.outcome.figures.get("server_cpu_us_per_event").copied().unwrap_or(0.0))
    }

    fn plan(&self, events: std::ops::Range<u32>) -> PublishPlan {
        let mut items = Vec::new();
        for seq in events {
            for channel in 0..self.channels as u32 {
                let at_ns = Some((items.len() as f64 / self.rate * 1e9) as u64);
                items.push(Item { at_ns, channel, stream: channel, first_seq: seq, events: 1 });
            }
        }
        PublishPlan {
            channels: (0..self.channels).map(|number| format!("load/{number}/x")).collect(),
            lanes: vec![items],
            payload: self.payload,
            unanswered_max: 1,
        }
    }
}
