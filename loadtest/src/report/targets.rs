//! What was to be reached, and what was.

use super::case::{Case, Spread, shown};
use super::number::{number, ratio};
use super::summary::Summary;
use super::table::Table;

/// Names and values of sizes, the values as they are shown.
pub(crate) type Sizes = &'static [(&'static str, &'static str)];

/// Something to be reached by the hub.
struct Target {
    what: &'static str,
    scenario: &'static str,
    /// The sizes it is meant for, as they are shown. A run at others says nothing about it.
    sizes: Sizes,
    figure: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    /// At most so many times the floor's.
    OfFloor(f64),
    AtMost(f64),
    AtLeast(f64),
}

/// All targets of the hub with what was reached; only those that were measured.
pub(crate) fn targets_table(summary: &Summary<'_>) -> Table {
    let row = |target: &Target| {
        let reached = target.reached(summary)?;
        let met = if target.bound.is_met(reached.median) { "met" } else { "missed" };
        Some(vec![
            target.what.to_owned(),
            target.bound.shown(),
            target.bound.value_shown(&reached),
            met.to_owned(),
        ])
    };
    let head = ["target", "bound", "reached", ""].map(str::to_owned).to_vec();
    Table { head, labels: 1, rows: TARGETS.iter().filter_map(row).collect() }
}

impl Target {
    fn reached(&self, summary: &Summary<'_>) -> Option<Spread> {
        let case = case_at(summary, self.scenario, self.sizes)?;
        match self.bound {
            Bound::OfFloor(_) => case.ratio(HUB, self.figure),
            Bound::AtMost(_) | Bound::AtLeast(_) => case.entry(HUB)?.figure(self.figure),
        }
    }
}

/// The first case of a scenario that has all of these sizes, as they are shown.
pub(crate) fn case_at<'a, 'b>(
    summary: &'b Summary<'a>,
    scenario: &str,
    sizes: Sizes,
) -> Option<&'b Case<'a>> {
    let fits = |case: &&Case<'_>| {
        sizes.iter().all(|(name, value)| {
            case.parameters.get(*name).is_some_and(|size| shown(size) == *value)
        })
    };
    summary.scenario(scenario).iter().find(fits)
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::OfFloor(most) | Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::OfFloor(most) => format!("at most {} the floor", ratio(most)),
            Self::AtMost(most) => format!("at most {}", number(most)),
            Self::AtLeast(least) => format!("at least {}", number(least)),
        }
    }

    fn value_shown(self, spread: &Spread) -> String {
        match self {
            Self::OfFloor(_) => spread.shown(ratio),
            Self::AtMost(_) | Self::AtLeast(_) => spread.shown(number),
        }
    }
}

/// Whom the targets are for.
pub(crate) const HUB: &str = "visnyk";

pub(crate) const PACED: Sizes = &[("subscribers", "10,000"), ("rate", "10"), ("payload", "128")];
pub(crate) const BURST: Sizes =
    &[("subscribers", "10,000"), ("events", "200"), ("payload", "128"), ("mode", "pipelined")];
pub(crate) const IDLE: Sizes = &[("connections", "1,000 / 10,000 / 18,000")];
const MANY: Sizes = &[("channels", "1,000"), ("subscribers", "10"), ("payload", "128")];

const TARGETS: [Target; 7] = [
    Target {
        what: "Paced, 10 events/s to 10,000: CPU per delivery",
        scenario: "paced",
        sizes: PACED,
        figure: "server_cpu_us_per_delivery",
        bound: Bound::OfFloor(1.10),
    },
    Target {
        what: "Paced, 10 events/s to 10,000: p99 latency",
        scenario: "paced",
        sizes: PACED,
        figure: "latency_p99_ms",
        bound: Bound::OfFloor(1.10),
    },
    Target {
        what: "Burst, 200 events to 10,000: CPU per delivery, µs",
        scenario: "burst",
        sizes: BURST,
        figure: "server_cpu_us_per_delivery",
        bound: Bound::AtMost(0.30),
    },
    Target {
        what: "Burst, 200 events to 10,000: p99 latency, ms",
        scenario: "burst",
        sizes: BURST,
        figure: "latency_p99_ms",
        bound: Bound::AtMost(150.0),
    },
    Target {
        what: "18,000 idle streams: memory of each in user space, bytes",
        scenario: "idle",
        sizes: IDLE,
        figure: "server_resident_bytes_per_connection",
        bound: Bound::AtMost(700.0),
    },
    Target {
        what: "Connects a second",
        scenario: "idle",
        sizes: IDLE,
        figure: "connects_per_s",
        bound: Bound::AtLeast(45_000.0),
    },
    Target {
        what: "1,000 channels with 10 subscribers each: CPU per delivery",
        scenario: "many_channels",
        sizes: MANY,
        figure: "server_cpu_us_per_delivery",
        bound: Bound::OfFloor(1.35),
    },
];
