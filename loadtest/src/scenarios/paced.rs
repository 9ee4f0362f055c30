//! One channel, many subscribers, events at a steady rate.

use serde::Serialize;

use crate::client::{Expect, Group, PublishPlan};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `paced`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Paced {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 10_000)]
    pub subscribers: usize,
    /// Events in all.
    #[arg(long, default_value_t = 100)]
    pub events: u32,
    /// Events a second.
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
}

impl Paced {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("paced", self, subject, progress);
        let group =
            Group::new((subject.subscribe)(subject, CHANNEL), Expect::all_of(0), self.subscribers);
        let mut receivers = run.connect(&[group])?;
        let plan = PublishPlan::paced(CHANNEL, 0..self.events, self.rate, self.payload);
        let deliveries = u64::from(self.events) * self.subscribers as u64;
        run.broadcast(&mut receivers, plan, deliveries)?;
        run.finish(&mut receivers, |_| self.events)
    }
}

const CHANNEL: &str = "load";
