//! Everything at once for a long time: what grows, what slows down.

use std::time::Duration;

use serde::Serialize;

use crate::churning::Churn;
use crate::client::{Expect, Group, Item, Pollers, PublishPlan};
use crate::measured::Run;
use crate::open_streams::check_open;
use crate::outcome::Verified;
use crate::scenarios::slow_readers::never_stalled;
use crate::server_process::Setting;
use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `soak`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Soak {
    /// For how long.
    #[arg(long, default_value_t = 600)]
    pub duration_s: u32,
    /// Subscribers of the big channel.
    #[arg(long, default_value_t = 4_000)]
    pub subscribers: usize,
    /// More subscribers of it, that come and go.
    #[arg(long, default_value_t = 1_000)]
    pub passing: usize,
    /// How many of those come and go each second.
    #[arg(long, default_value_t = 50.0)]
    pub per_s: f64,
    /// More subscribers of it, that do not read, and stay all the same.
    #[arg(long, default_value_t = 50)]
    pub slow: usize,
    /// Small channels, of ten subscribers each.
    #[arg(long, default_value_t = 200)]
    pub channels: usize,
    /// Long-polls that wait on a channel of their own.
    #[arg(long, default_value_t = 200)]
    pub waiting: usize,
    /// Events a second: to the big channel and to the polled one this many, to the small channels
    /// together fifty times as many.
    #[arg(long, default_value_t = 4.0)]
    pub rate: f64,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
    /// The hub's `limits.history.events_max`, if not its default: histories that are full early do
    /// not pass for a leak.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_events: Option<u32>,
}

impl Soak {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        let mut run = Run::new("soak", self, subject, progress);
        let mut groups = vec![
            self.group(subject, BIG, self.subscribers),
            self.group(subject, BIG, self.passing),
        ];
        let small = 0..self.channels as u32;
        groups.extend(small.map(|number| self.group(subject, SMALL + number, SMALL_SUBSCRIBERS)));
        let readers: usize = groups.iter().map(|group| group.connections).sum();
        if let Some(subscribe_slow) = subject.extras.subscribe_slow {
            let request = subscribe_slow(subject, &channel(BIG));
            let group = Group::new(request, Expect::all_of(BIG), self.slow);
            groups.push(Group { reads: false, ..group });
        }
        let streams = groups.iter().map(|group| group.connections).sum();
        let mut receivers = run.connect(&groups)?;
        let (big, small) = self.events();
        let coming = Churn {
            connections: self.subscribers..self.subscribers + self.passing,
            per_s: self.per_s,
        };
        let polled = std::thread::scope(|scope| -> Result<Verified, Failure> {
            let mut pollers = Pollers::connect(subject, &channel(POLLED), self.waiting, |_| {})?;
            run.quiet(&mut |time| pollers.receive_for(time))?;
            let polling = scope.spawn(move || -> Result<Verified, Failure> {
                pollers.receive_until(u64::from(big) * self.waiting as u64, POLL_STALL)?;
                pollers.verify(big)
            });
            let churned = run.churn(&mut receivers, self.plan(0..big, 0..small), &coming);
            let polled = polling.join().map_err(|_| Failure::Unsupported("a panic".into()))?;
            churned.and(polled)
        })?;
        let last = self.plan(big..big + 1, small..small + self.channels as u32);
        run.outcome.verified.events += 1 + self.channels as u64;
        let rounds = small / self.channels.max(1) as u32 + 1;
        let events_of = |stream| if stream == BIG { big + 1 } else { rounds };
        receivers.receive_rest(last, subject, events_of)?;
        check_open(subject, streams)?;
        run.figure("readers", readers as f64);
        let mut outcome = run.finish(&mut receivers, events_of)?;
        outcome.verified.deliveries += polled.deliveries;
        Ok(outcome)
    }

    fn group(&self, subject: &Subject, stream: u32, connections: usize) -> Group {
        let request = (subject.subscribe)(subject, &channel(stream));
        Group::new(request, Expect::all_of(stream), connections)
    }

    /// What a stopped reader holds is to be held to the end.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let mut settings = vec![never_stalled()];
        let events = self.history_events.map(|events| events.to_string());
        settings.extend(events.map(|events| ("VISNYK_LIMITS__HISTORY__EVENTS_MAX", events)));
        settings
    }

    /// Events to the big channel, and to all small ones together: as many to each.
    fn events(&self) -> (u32, u32) {
        let big = (self.rate * f64::from(self.duration_s)) as u32;
        let channels = self.channels as u32;
        let small = (big * SMALL_TIMES).checked_div(channels).unwrap_or(0) * channels;
        (big, small)
    }

    fn plan(&self, big: std::ops::Range<u32>, small: std::ops::Range<u32>) -> PublishPlan {
        let item = |first: u32, number: u32, rate: f64, channel: u32, stream, first_seq| Item {
            at_ns: Some((f64::from(number - first) / rate * 1e9) as u64),
            channel,
            stream,
            first_seq,
            events: 1,
        };
        let channels = (self.channels as u32).max(1);
        let (first_big, first_small) = (big.start, small.start);
        let lanes = vec![
            big.clone().map(|n| item(first_big, n, self.rate, BIG, BIG, n)).collect(),
            // The polled channel has a stream 0 of its own: its clients are others.
            big.map(|n| item(first_big, n, self.rate, POLLED, 0, n)).collect(),
            small
                .map(|n| {
                    let channel = SMALL + n % channels;
                    let rate = self.rate * f64::from(SMALL_TIMES);
                    item(first_small, n, rate, channel, channel, n / channels)
                })
                .collect(),
        ];
        let names = (0..SMALL + self.channels as u32).map(channel).collect();
        PublishPlan { channels: names, lanes, payload: self.payload, unanswered_max: 1 }
    }
}

fn channel(number: u32) -> String {
    format!("load/{number}")
}

const BIG: u32 = 0;
const POLLED: u32 = 1;
/// The first of the small channels.
const SMALL: u32 = 2;
const SMALL_SUBSCRIBERS: usize = 10;
const SMALL_TIMES: u32 = 50;
/// The polled channel's events come several a second.
const POLL_STALL: Duration = Duration::from_secs(20);
