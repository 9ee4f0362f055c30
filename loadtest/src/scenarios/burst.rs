//! One channel, many subscribers, events back to back.

use serde::Serialize;

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
    pub(crate) fn run(&self, _: &Subject, _: &Progress) -> Result<Outcome, Failure> {
        Err(Failure::Unsupported("not built yet".into()))
    }
}
