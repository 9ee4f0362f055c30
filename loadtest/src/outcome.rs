//! What a run of a scenario found: one line of JSON in the results file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One run of one scenario against one subject.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The subject's name.
    pub subject: String,
    /// Which of several rounds in one sitting, from 1.
    pub round: u32,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Where it ran.
    pub machine: Machine,
    /// What of the subject was measured.
    #[serde(default)]
    pub build: Build,
    /// The sizes it ran with.
    pub parameters: BTreeMap<String, Value>,
    /// Figures, the unit last in their names.
    pub figures: BTreeMap<String, f64>,
    /// From the time an event was due until it was received; `None` if nothing was timed.
    pub latency_us: Option<LatencyUs>,
    /// Points of the whole distribution: percentile, microseconds.
    pub percentiles: Vec<(f64, f64)>,
    /// What is a curve rather than a number.
    pub series: Vec<Series>,
    /// What was checked, and what was wrong.
    pub verified: Verified,
}

/// The machine, as far as figures depend on it.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Memory in all.
    pub memory_bytes: u64,
    /// Open files that this process may have, after raising the soft limit.
    pub nofile: u64,
}

/// A build of the subject, as far as it is known.
#[derive(Debug, Clone, Serialize, Deserialize, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Build {
    /// What its executable answers to `--version`.
    pub version: String,
    /// The first digits of the SHA-256 of its executable.
    pub sha256: String,
}

/// A distribution of latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Default)]
pub struct LatencyUs {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
    /// How many were timed.
    pub count: u64,
}

/// A curve.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Unit of the first coordinate.
    pub x_unit: String,
    /// Unit of the second.
    pub y_unit: String,
    /// Its points, in the order of the first coordinate.
    pub points: Vec<(f64, f64)>,
}

/// The checks of all deliveries. Any fault fails the run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Default, PartialEq, Eq)]
pub struct Verified {
    /// Events published.
    pub events: u64,
    /// Deliveries checked.
    pub deliveries: u64,
    /// Never came.
    pub lost: u64,
    /// Came again.
    pub repeated: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Were not what was published.
    pub corrupt: u64,
    /// Gap events that subscribers received.
    #[serde(default)]
    pub gaps: u64,
}

impl Verified {
    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.lost + self.repeated + self.reordered + self.corrupt + self.gaps == 0
    }
}
