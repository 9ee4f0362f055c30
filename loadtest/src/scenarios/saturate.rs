//! Small channels to saturation: publishers in a closed loop, each as fast as its answers come.

use serde::Serialize;

use crate::client::{Expect, Group, Item, PublishPlan};
use crate::measured::Run;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `saturate`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Saturate {
    /// Channels.
    #[arg(long, default_value_t = 200)]
    pub channels: usize,
    /// Subscribers of each.
    #[arg(long, default_value_t = 10)]
    pub subscribers: usize,
    /// Events in all, in turn to each channel.
    #[arg(long, default_value_t = 80_000)]
    pub events: u32,
    /// Connections that publish; a channel belongs to one of them.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// Requests that a connection sends without waiting for the answer to the first.
    #[arg(long, default_value_t = 16)]
    pub pipelined: usize,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
}

impl Saturate {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("saturate", self, subject, progress);
        let channels: Vec<String> = (0..self.channels).map(|n| format!("load-{n}")).collect();
        let group = |(number, channel): (usize, &String)| {
            let request = (subject.subscribe)(subject, channel);
            Group::new(request, Expect::all_of(number as u32), self.subscribers)
        };
        let groups: Vec<Group> = channels.iter().enumerate().map(group).collect();
        let mut receivers = run.connect(&groups)?;
        let plan = PublishPlan {
            channels,
            lanes: self.lanes(),
            payload: self.payload,
            unanswered_max: self.pipelined,
        };
        let deliveries = u64::from(self.events) * self.subscribers as u64;
        let published = run.broadcast(&mut receivers, plan, deliveries)?;
        let elapsed_s = run.outcome.figures.get("elapsed_s").copied().unwrap_or_default();
        let drain_s = elapsed_s - published.elapsed.as_secs_f64();
        // From the last answer to a publisher until the last delivery.
        run.figure("drain_ms", drain_s.max(0.0) * 1_000.0);
        run.figure("publishes_per_s", published.requests as f64 / published.elapsed.as_secs_f64());
        run.finish(&mut receivers, |stream| self.events_of(stream))
    }

    /// Each channel's events are published by one connection, in their order.
    fn lanes(&self) -> Vec<Vec<Item>> {
        let mut lanes = vec![Vec::new(); self.publishers.clamp(1, self.channels.max(1))];
        for number in 0..self.events {
            let channel = number % self.channels.max(1) as u32;
            let lane = channel as usize % lanes.len();
            lanes[lane].push(Item {
                at_ns: None,
                channel,
                stream: channel,
                first_seq: number / self.channels.max(1) as u32,
                events: 1,
            });
        }
        lanes
    }

    /// How many of the events go to a channel.
    fn events_of(&self, channel: u32) -> u32 {
        let channels = self.channels.max(1) as u32;
        self.events / channels + u32::from(channel < self.events % channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_hold_each_event_of_each_channel_once() {
        let plan = Saturate {
            channels: 7,
            subscribers: 1,
            events: 31,
            publishers: 3,
            pipelined: 16,
            payload: 128,
        };
        let lanes = plan.lanes();
        assert_eq!(lanes.len(), 3);
        for channel in 0..7 {
            let seqs: Vec<u32> = lanes
                .iter()
                .flatten()
                .filter(|item| item.channel == channel)
                .map(|item| item.first_seq)
                .collect();
            assert_eq!(seqs, (0..plan.events_of(channel)).collect::<Vec<_>>());
        }
    }
}
