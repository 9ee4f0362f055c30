//! The scenarios by name, with their sizes, and the one way to run any of them.

use serde::Serialize;

use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::scenarios::{Burst, Idle, ManyChannels, Paced};
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
}

impl Scenario {
    /// Its name in results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Paced(_) => "paced",
            Self::Burst(_) => "burst",
            Self::ManyChannels(_) => "many_channels",
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
    }
}
