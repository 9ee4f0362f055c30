//! A channel of ten subscribers, alone and beside one of very many.

use serde::Serialize;

use crate::apart::Apart;
use crate::client::{Expect, Group, Item, PublishPlan};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `big-beside-small`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct BigBesideSmall {
    /// Subscribers of the big channel, in a process of their own.
    #[arg(long, default_value_t = 18_000)]
    pub big: usize,
    /// Subscribers of the small channel, which are timed.
    #[arg(long, default_value_t = 10)]
    pub small: usize,
    /// Events a second to the big channel.
    #[arg(long, default_value_t = 2.0)]
    pub big_rate: f64,
    /// Events a second to the small one.
    #[arg(long, default_value_t = 50.0)]
    pub small_rate: f64,
    /// For how long, alone and beside.
    #[arg(long, default_value_t = 10)]
    pub duration_s: u32,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
}

impl BigBesideSmall {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("big_beside_small", self, subject, progress);
        let events = |rate: f64| (rate * f64::from(self.duration_s)).max(1.0) as u32;
        let (small, big) = (events(self.small_rate), events(self.big_rate));
        let request = (subject.subscribe)(subject, SMALL);
        let group = Group::new(request, Expect::all_of(0), self.small);
        let mut receivers = run.connect(&[group])?;
        let due = u64::from(small) * self.small as u64;

        let alone = PublishPlan::paced(SMALL, 0..small, self.small_rate, self.payload);
        run.broadcast(&mut receivers, alone, due)?;
        let alone_us = run.p99_us();

        progress.begin("connecting the big channel", 0);
        let apart = Apart::start(subject, &(subject.subscribe)(subject, BIG), self.big, big)?;
        run.quiet(&mut |time| receivers.receive_for(time))?;
        let mut beside = PublishPlan::paced(SMALL, small..2 * small, self.small_rate, self.payload);
        beside.channels.push(BIG.to_owned());
        beside.lanes.push((0..big).map(|number| self.big_item(number)).collect());
        run.broadcast(&mut receivers, beside, due)?;
        let beside_us = run.p99_us();
        let received = apart.finish()?;

        run.figure("latency_p99_us_alone", alone_us);
        run.figure("latency_p99_us_beside_big", beside_us);
        run.figure("latency_p99_ratio", beside_us / alone_us.max(1.0));
        let mut outcome = run.finish(&mut receivers, |_| 2 * small)?;
        outcome.verified.deliveries += received.verified.deliveries;
        Ok(outcome)
    }

    fn big_item(&self, number: u32) -> Item {
        let at_ns = Some((f64::from(number) / self.big_rate * 1e9) as u64);
        Item { at_ns, channel: 1, stream: 0, first_seq: number, events: 1 }
    }
}

const SMALL: &str = "load-small";
const BIG: &str = "load-big";
