//! What was to be reached, and what was.

use super::case::{Case, FLOOR, MEMORY, Spread, shown};
use super::number::{number, ratio};
use super::summary::{Summary, overload};
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
    /// At least so many times that of the hub in memory.
    AtLeastOfMemory(f64),
    /// At most `times` that of the hub in memory, and so many fsyncs above that. The figure is in
    /// microseconds.
    FsyncsAbove {
        times: f64,
        fsyncs: f64,
    },
    AtMost(f64),
    AtLeast(f64),
}

/// All targets of the hub with what was reached; only those that were measured.
pub(crate) fn targets_table(summary: &Summary<'_>) -> Table {
    let row = |target: &Target| {
        let case = case_at(summary, target.scenario, target.sizes)?;
        let reached = target.reached(case)?;
        let measured = [HUB, FLOOR, MEMORY].iter().filter_map(|subject| case.entry(subject));
        let verdict = match target.bound.is_met(reached.median) {
            // The cost of a queue cannot be compared either.
            _ if measured.flat_map(|entry| &entry.runs).any(|run| overload(run).is_some()) => {
                "did not keep up"
            }
            true => "met",
            false => "missed",
        };
        Some(vec![
            target.what.to_owned(),
            target.bound.shown(),
            target.bound.value_shown(&reached),
            verdict.to_owned(),
        ])
    };
    let head = ["target", "bound", "reached", ""].map(str::to_owned).to_vec();
    Table { head, labels: 1, rows: TARGETS.iter().filter_map(row).collect() }
}

impl Target {
    fn reached(&self, case: &Case<'_>) -> Option<Spread> {
        match self.bound {
            Bound::OfFloor(_) | Bound::AtLeastOfMemory(_) => case.ratio(HUB, self.figure),
            Bound::FsyncsAbove { times, .. } => case.fsyncs_above(HUB, self.figure, times),
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
            Self::OfFloor(most) | Self::AtMost(most) | Self::FsyncsAbove { fsyncs: most, .. } => {
                value <= most
            }
            Self::AtLeast(least) | Self::AtLeastOfMemory(least) => value >= least,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::OfFloor(most) => format!("at most {}", ratio(most)),
            Self::AtLeastOfMemory(least) => format!("at least {} memory", ratio(least)),
            Self::FsyncsAbove { times, fsyncs } => {
                format!("at most {} memory + {} fsync", ratio(times), number(fsyncs))
            }
            Self::AtMost(most) => format!("at most {}", number(most)),
            Self::AtLeast(least) => format!("at least {}", number(least)),
        }
    }

    fn value_shown(self, spread: &Spread) -> String {
        match self {
            Self::OfFloor(_) | Self::AtLeastOfMemory(_) => spread.shown(ratio),
            Self::FsyncsAbove { times, .. } => {
                format!("{} + {} fsync", ratio(times), spread.shown(number))
            }
            Self::AtMost(_) | Self::AtLeast(_) => spread.shown(number),
        }
    }
}

/// The load that the targets are for.
pub(crate) const HUB: &str = "visnyk";

/// A rate at which the floor keeps up on a slow machine too.
pub(crate) const PACED: Sizes = &[("subscribers", "10,000"), ("rate", "5"), ("payload", "128")];
pub(crate) const BURST: Sizes =
    &[("subscribers", "10,000"), ("events", "200"), ("payload", "128"), ("mode", "pipelined")];
pub(crate) const IDLE: Sizes = &[("connections", "1,000 / 10,000 / 18,000")];
const MANY: Sizes = &[("channels", "1,000"), ("subscribers", "10"), ("payload", "128")];

const POLL: Sizes = &[("waiting", "5,000"), ("payload", "128")];

const DISK: Sizes = &[("fsync_delay_ms", "0"), ("payload", "256")];
const SLOW_DISK: Sizes = &[("fsync_delay_ms", "5"), ("payload", "256")];
const HISTORY: Sizes = &[("events", "1,000,000")];

const TARGETS: [Target; 19] = [
    Target {
        what: "Paced, 5 events/s to 10,000: CPU per delivery",
        scenario: "paced",
        sizes: PACED,
        figure: "server_cpu_us_per_delivery",
        bound: Bound::OfFloor(1.10),
    },
    Target {
        what: "Paced, 5 events/s to 10,000: p99 latency",
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
    Target {
        what: "10 subscribers beside a channel with 18,000: p99, times what it is alone",
        scenario: "big_beside_small",
        sizes: &[("big", "18,000"), ("small", "10")],
        figure: "latency_p99_ratio",
        bound: Bound::AtMost(2.0),
    },
    Target {
        what: "5,000 waiting polls: time until all are answered, ms",
        scenario: "poll",
        sizes: POLL,
        figure: "all_answered_ms",
        bound: Bound::AtMost(20.0),
    },
    Target {
        what: "5,000 polls in cycles: CPU per cycle, µs",
        scenario: "poll",
        sizes: POLL,
        figure: "server_cpu_us_per_cycle",
        bound: Bound::AtMost(9.0),
    },
    Target {
        what: "5,000 waiting polls: memory of each in user space, bytes",
        scenario: "poll",
        sizes: POLL,
        figure: "server_resident_bytes_per_waiter",
        bound: Bound::AtMost(4_000.0),
    },
    Target {
        what: "64 publishers, history on disk: acknowledged publishes a second",
        scenario: "durable",
        sizes: DISK,
        figure: "publishes_per_s_64_publishers",
        bound: Bound::AtLeastOfMemory(0.7),
    },
    Target {
        what: "One publisher, history on disk: p99 of its answers",
        scenario: "durable",
        sizes: DISK,
        figure: "answer_p99_us_1_publishers",
        bound: Bound::FsyncsAbove { times: 1.0, fsyncs: 1.3 },
    },
    Target {
        what: "100 subscribers, history on disk: p99 from publish to receive",
        scenario: "durable",
        sizes: DISK,
        figure: "latency_p99_us",
        bound: Bound::FsyncsAbove { times: 1.15, fsyncs: 1.0 },
    },
    Target {
        what: "64 publishers, an fsync of 5 ms more: publishes in the time of one fsync",
        scenario: "durable",
        sizes: SLOW_DISK,
        figure: "publishes_in_an_fsync_64_publishers",
        bound: Bound::AtLeast(24.0),
    },
    Target {
        what: "256 publishers, an fsync of 5 ms more: publishes in the time of one fsync",
        scenario: "durable",
        sizes: SLOW_DISK,
        figure: "publishes_in_an_fsync_256_publishers",
        bound: Bound::AtLeast(90.0),
    },
    Target {
        what: "One publisher, an fsync of 5 ms more: p99 of its answers, in fsyncs",
        scenario: "durable",
        sizes: SLOW_DISK,
        figure: "answer_p99_in_fsyncs_1_publishers",
        bound: Bound::AtMost(1.3),
    },
    Target {
        what: "Resume of the last 100 of a million events on disk: median, times that of 10,000",
        scenario: "history",
        sizes: HISTORY,
        figure: "resume_100_ratio_end",
        bound: Bound::AtMost(2.0),
    },
    Target {
        what: "Resume of 100 amidst a million events on disk: median, times that of 10,000",
        scenario: "history",
        sizes: HISTORY,
        figure: "resume_100_ratio_midst",
        bound: Bound::AtMost(2.0),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::example::outcomes;

    /// What is said of the first target, CPU per delivery of `paced`, if the hub spent `cpu_us`
    /// where the floor spent 4.
    fn said(cpu_us: f64, change: impl Fn(&mut Outcome)) -> Vec<String> {
        let mut outcomes = outcomes();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.scenario == "paced") {
            if outcome.subject == HUB {
                outcome.figures.insert("server_cpu_us_per_delivery".into(), cpu_us);
            }
            change(outcome);
        }
        let table = targets_table(&Summary::of(&outcomes));
        table.rows.into_iter().next().expect("paced was measured")
    }

    #[test]
    fn target_is_met_up_to_its_bound() {
        for (cpu_us, reached, verdict) in
            [(4.0, "×1.00", "met"), (4.4, "×1.10", "met"), (4.41, "×1.10", "missed")]
        {
            assert_eq!(said(cpu_us, |_| {})[2..], [reached, verdict], "{cpu_us}");
        }
    }

    #[test]
    fn queue_is_no_measure() {
        let slow = |subject: &'static str| {
            move |outcome: &mut Outcome| {
                let slow = outcome.subject == subject;
                outcome.figures.insert("deliveries".into(), 100_000.0);
                outcome.figures.insert("deliveries_per_s".into(), if slow { 1.0 } else { 1e6 });
            }
        };
        assert_eq!(said(4.0, slow(FLOOR))[3], "did not keep up");
        assert_eq!(said(4.0, slow(HUB))[3], "did not keep up");
        assert_eq!(said(4.0, slow("another"))[3], "met");
    }

    #[test]
    fn other_sizes_say_nothing_about_a_target() {
        let mut outcomes = outcomes();
        for outcome in &mut outcomes {
            outcome.parameters.insert("payload".into(), 4_096.into());
            outcome.parameters.insert("connections".into(), 1.into());
        }
        assert!(targets_table(&Summary::of(&outcomes)).rows.is_empty());
    }
}
