//! Many channels with few subscribers each.

use serde::Serialize;

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
    pub(crate) fn run(&self, _: &Subject, _: &Progress) -> Result<Outcome, Failure> {
        Err(Failure::Unsupported("not built yet".into()))
    }
}
