//! Many channels with few subscribers each.

use serde::Serialize;

use crate::client::{Expect, Group, Item, PublishPlan};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `many-channels`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct ManyChannels {
    /// Channels.
    #[arg(long, default_value_t = 1_000)]
    pub channels: usize,
    /// Subscribers of each.
    #[arg(long, default_value_t = 10)]
    pub subscribers: usize,
    /// Events to each.
    #[arg(long, default_value_t = 20)]
    pub events: u32,
    /// Events a second to all channels together.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// Connections that publish; a channel belongs to one of them.
    #[arg(long, default_value_t = 4)]
    pub publishers: usize,
}

impl ManyChannels {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("many_channels", self, subject, progress);
        let channels: Vec<String> = (0..self.channels).map(|n| format!("load-{n}")).collect();
        let groups: Vec<Group> = channels
            .iter()
            .enumerate()
            .map(|(number, channel)| {
                Group::new(
                    (subject.subscribe)(subject, channel),
                    Expect::all_of(number as u32),
                    self.subscribers,
                )
            })
            .collect();
        let mut receivers = run.connect(&groups)?;
        let plan =
            PublishPlan { channels, lanes: self.lanes(), payload: self.payload, unanswered_max: 1 };
        let connections = (self.channels * self.subscribers) as u64;
        run.broadcast(&mut receivers, plan, u64::from(self.events) * connections)?;
        run.finish(&mut receivers, |_| self.events)
    }

    /// Events in turn to each channel, at a steady rate over all of them.
    fn lanes(&self) -> Vec<Vec<Item>> {
        let mut lanes = vec![Vec::new(); self.publishers.max(1)];
        for seq in 0..self.events {
            for channel in 0..self.channels {
                let number = seq as usize * self.channels + channel;
                let lane = channel % lanes.len();
                lanes[lane].push(Item {
                    at_ns: Some((number as f64 / self.rate * 1e9) as u64),
                    channel: channel as u32,
                    stream: channel as u32,
                    first_seq: seq,
                    events: 1,
                });
            }
        }
        lanes
    }
}
