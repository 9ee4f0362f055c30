//! One channel, many subscribers, events back to back.

use serde::Serialize;

use crate::client::{Expect, Group, Item, PublishPlan};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `burst`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Burst {
    /// Subscribers of the channel.
    #[arg(long, default_value_t = 10_000)]
    pub subscribers: usize,
    /// Events in all.
    #[arg(long, default_value_t = 200)]
    pub events: u32,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// How the publisher behaves.
    #[arg(long, value_enum, default_value_t = BurstMode::Pipelined)]
    pub mode: BurstMode,
    /// Connections that publish, for `connections`.
    #[arg(long, default_value_t = 16)]
    pub publishers: usize,
}

/// How a burst is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BurstMode {
    /// One connection; all requests are sent without waiting for an answer.
    Pipelined,
    /// One connection; each request waits for the answer to the one before.
    Waiting,
    /// Several connections, each of which waits for its answers.
    Connections,
    /// One request with all events.
    Batch,
}

impl Burst {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("burst", self, subject, progress);
        let lanes = self.lanes(subject)?;
        let streams = lanes.len() as u32;
        let expect = match streams {
            1 => Expect::all_of(0),
            _ => Expect::all_of_many(0..streams),
        };
        let events_of: Vec<u32> =
            lanes.iter().map(|lane| lane.iter().map(|item| item.events).sum()).collect();
        let group = Group::new((subject.subscribe)(subject, CHANNEL), expect, self.subscribers);
        let mut receivers = run.connect(&[group])?;
        let plan = PublishPlan {
            channels: vec![CHANNEL.to_owned()],
            lanes,
            payload: self.payload,
            unanswered_max: if self.mode == BurstMode::Pipelined { usize::MAX } else { 1 },
        };
        let deliveries = u64::from(self.events) * self.subscribers as u64;
        run.broadcast(&mut receivers, plan, deliveries)?;
        run.finish(&mut receivers, |stream| events_of[stream as usize])
    }

    /// What each connection publishes. Each has a stream of its own: the order in which the server
    /// takes the requests of several is its own affair.
    fn lanes(&self, subject: &Subject) -> Result<Vec<Vec<Item>>, Failure> {
        let item =
            |stream, first_seq, events| Item { at_ns: None, channel: 0, stream, first_seq, events };
        match self.mode {
            BurstMode::Pipelined | BurstMode::Waiting => {
                Ok(vec![(0..self.events).map(|number| item(0, number, 1)).collect()])
            }
            BurstMode::Connections => {
                let lanes = (self.publishers.max(1) as u32).min(self.events.max(1));
                let share = |lane| self.events / lanes + u32::from(lane < self.events % lanes);
                let lane = |lane| (0..share(lane)).map(|number| item(lane, number, 1)).collect();
                Ok((0..lanes).map(lane).collect())
            }
            BurstMode::Batch if subject.publish_batch.is_some() => {
                Ok(vec![vec![item(0, 0, self.events)]])
            }
            BurstMode::Batch => {
                Err(Failure::Unsupported(format!("{} takes no batches", subject.name)))
            }
        }
    }
}

const CHANNEL: &str = "load";
