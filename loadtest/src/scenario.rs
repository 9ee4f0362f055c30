//! The scenarios by name, with their sizes, and the one way to run any of them.

use serde::Serialize;

use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::scenarios::{
    BigBesideSmall, Burst, Churn, Curves, Durable, History, Http2, Idle, ManyChannels, Paced,
    Patterns, Poll, Publish, ReconnectStorm, Saturate, SlowReaders, Soak,
};
use crate::server_process::Setting;
use crate::subject::Subject;

/// A scenario with all its sizes.
#[derive(Debug, Clone, clap::Subcommand, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Scenario {
    /// Connects subscribers in steps and leaves them idle: memory of each, connects a second.
    Idle(Idle),
    /// Publishes at a steady rate to one channel with many subscribers.
    Paced(Paced),
    /// Publishes many events back to back to one channel with many subscribers.
    Burst(Burst),
    /// Publishes in turn to many channels with few subscribers each.
    ManyChannels(ManyChannels),
    /// Publishes to many channels as fast as answers come: rate, latency, the time to drain.
    Saturate(Saturate),
    /// Times a channel of few subscribers alone and beside one of very many.
    BigBesideSmall(BigBesideSmall),
    /// Publishes beside ever more pattern subscriptions.
    Patterns(Patterns),
    /// Answers many long-polls at once, and again and again.
    Poll(Poll),
    /// Publishes as fast as answers come.
    Publish(Publish),
    /// Publishes single events as fast as they are on disk, and times their subscribers. The hub
    /// has a log on disk.
    Durable(Durable),
    /// Lets subscribers come and go while events flow.
    Churn(Churn),
    /// Drops all subscribers and lets them resume at once.
    ReconnectStorm(ReconnectStorm),
    /// Times subscribers that read beside some that do not.
    SlowReaders(SlowReaders),
    /// Does all of it together for ten minutes.
    Soak(Soak),
    /// Reads all of a channel's history from disk beside live subscribers: their latency, its rate,
    /// and how long a shard's thread was busy at a time. The hub has a log on disk.
    History(History),
    /// Opens streams that share connections over HTTP/2, in plain text or under TLS: memory and CPU
    /// of each.
    Http2(Http2),
    /// Costs over connections, channels, patterns and payload.
    Curves(Curves),
}

impl Scenario {
    /// Parses a scenario and its sizes from the words of a command line. Ends the process with a
    /// message if they are wrong, as the command line of this program does.
    pub fn from_words<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        #[derive(clap::Parser)]
        #[command(no_binary_name = true)]
        struct Words {
            #[command(subcommand)]
            scenario: Scenario,
        }
        <Words as clap::Parser>::parse_from(words).scenario
    }

    /// Its name in results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Paced(_) => "paced",
            Self::Burst(_) => "burst",
            Self::ManyChannels(_) => "many_channels",
            Self::Saturate(_) => "saturate",
            Self::BigBesideSmall(_) => "big_beside_small",
            Self::Patterns(_) => "patterns",
            Self::Poll(_) => "poll",
            Self::Publish(_) => "publish",
            Self::Durable(_) => "durable",
            Self::Churn(_) => "churn",
            Self::ReconnectStorm(_) => "reconnect_storm",
            Self::SlowReaders(_) => "slow_readers",
            Self::Soak(_) => "soak",
            Self::History(_) => "history",
            Self::Http2(_) => "http2",
            Self::Curves(_) => "curves",
        }
    }

    /// Whether a hub that is started for it is to have a log on disk.
    pub fn wants_disk(&self) -> bool {
        match self {
            Self::History(_) | Self::Durable(_) => true,
            Self::ReconnectStorm(plan) => plan.restart,
            _ => false,
        }
    }

    /// By how much each fsync of a server that is started for it is to be delayed.
    pub fn fsync_delay_ms(&self) -> u32 {
        match self {
            Self::Durable(plan) => plan.fsync_delay_ms,
            _ => 0,
        }
    }

    /// What a hub that is started for it is to have set otherwise than by default.
    pub fn settings(&self) -> Vec<Setting> {
        match self {
            Self::SlowReaders(plan) => plan.settings(),
            Self::Soak(plan) => plan.settings(),
            Self::History(plan) => plan.settings(),
            _ => Vec::new(),
        }
    }
}

/// Runs a scenario against a server to its end. Blocks; ends by itself within the time that its
/// sizes imply and a fixed patience.
///
/// # Errors
///
/// Any delivery that is lost, repeated, out of order or changed fails the run, as does a server
/// that refuses or hangs.
pub fn run(
    scenario: &Scenario,
    subject: &Subject,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    if !subject.address.ip().is_loopback() {
        return Err(Failure::Unsupported("load goes to loopback only".into()));
    }
    match scenario {
        Scenario::Idle(plan) => plan.run(subject, progress),
        Scenario::Paced(plan) => plan.run(subject, progress),
        Scenario::Burst(plan) => plan.run(subject, progress),
        Scenario::ManyChannels(plan) => plan.run(subject, progress),
        Scenario::Saturate(plan) => plan.run(subject, progress),
        Scenario::BigBesideSmall(plan) => plan.run(subject, progress),
        Scenario::Patterns(plan) => plan.run(subject, progress),
        Scenario::Poll(plan) => plan.run(subject, progress),
        Scenario::Publish(plan) => plan.run(subject, progress),
        Scenario::Durable(plan) => plan.run(subject, progress),
        Scenario::Churn(plan) => plan.run(subject, progress),
        Scenario::ReconnectStorm(plan) => plan.run(subject, progress),
        Scenario::SlowReaders(plan) => plan.run(subject, progress),
        Scenario::Soak(plan) => plan.run(subject, progress),
        Scenario::History(plan) => plan.run(subject, progress),
        Scenario::Http2(plan) => plan.run(subject, progress),
        Scenario::Curves(plan) => plan.run(subject, progress),
    }
}
