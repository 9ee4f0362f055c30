//! The hub's figures of the last minutes.

use std::time::Duration;

use super::handle::Hub;
use crate::telemetry::{Sample, Samples};

/// The time between two samples of a hub's figures.
pub const SAMPLE_INTERVAL: Duration = Samples::INTERVAL;
/// How many samples a hub keeps: those of 15 minutes.
pub const SAMPLES_MAX: usize = Samples::MAX;

impl Hub {
    /// The newest `count` samples of its figures, oldest first. One is taken every
    /// [`SAMPLE_INTERVAL`], and [`SAMPLES_MAX`] are kept.
    pub fn samples(&self, count: usize) -> Vec<Sample> {
        self.0.samples.last(count)
    }
}
