//! One channel, many subscribers, events at a steady rate.

use serde::Serialize;

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
    pub(crate) fn run(&self, _: &Subject, _: &Progress) -> Result<Outcome, Failure> {
        Err(Failure::Unsupported("not built yet".into()))
    }
}
