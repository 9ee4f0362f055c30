//! Subscribers that wait: what each costs, and how fast they connect.

use serde::Serialize;

use crate::{failure::Failure, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `idle`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Idle {
    /// Subscribers in all after each step.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 18_000])]
    pub connections: Vec<usize>,
    /// How long they are left idle before memory is read.
    #[arg(long, default_value_t = 2)]
    pub settle_s: u64,
}

impl Idle {
    pub(crate) fn run(&self, _: &Subject, _: &Progress) -> Result<Outcome, Failure> {
        Err(Failure::Unsupported("not built yet".into()))
    }
}
