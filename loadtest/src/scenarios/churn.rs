//! Subscribers that come and go at a rate while events flow.

use serde::Serialize;

use crate::churning::Churn as Coming;
use crate::client::{Expect, Group, PublishPlan};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `churn`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Churn {
    /// Subscribers at a time.
    #[arg(long, default_value_t = 5_000)]
    pub subscribers: usize,
    /// Connections closed and made anew each second.
    #[arg(long, default_value_t = 1_000.0)]
    pub per_s: f64,
    /// For how long.
    #[arg(long, default_value_t = 20)]
    pub duration_s: u32,
    /// Events a second.
    #[arg(long, default_value_t = 5.0)]
    pub rate: f64,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
}

impl Churn {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("churn", self, subject, progress);
        let request = (subject.subscribe)(subject, CHANNEL);
        let group = Group::new(request, Expect::all_of(0), self.subscribers);
        let mut receivers = run.connect(&[group])?;
        let events = (self.rate * f64::from(self.duration_s)) as u32;
        let plan = PublishPlan::paced(CHANNEL, 0..events, self.rate, self.payload);
        let coming = Coming { connections: 0..self.subscribers, per_s: self.per_s };
        run.churn(&mut receivers, plan, &coming)?;
        // Every connection that is there now gets these, and has then had all there was since it
        // came.
        let last = PublishPlan::paced(CHANNEL, events..events + LAST, 10.0, self.payload);
        receivers.receive_rest(last, subject, |_| events + LAST)?;
        run.outcome.verified.events += u64::from(LAST);
        run.finish(&mut receivers, |_| events + LAST)
    }
}

const CHANNEL: &str = "load";
const LAST: u32 = 2;
