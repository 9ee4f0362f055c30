//! The comparison as Markdown: ratios to the floor and to the hub, and the figures behind them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;
use visnyk_loadtest::Outcome;

use super::results::{INSTALL, failure_of};

/// Everything of one comparison.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    outcomes: &'a [Outcome],
    columns: Vec<Column>,
    servers: Vec<&'a str>,
    faults: Vec<String>,
}

/// A figure of a scenario.
#[derive(Debug, Clone)]
struct Column {
    title: Cow<'static, str>,
    scenario: &'static str,
    /// Of which run of `saturate`, which is run more than once.
    case: Option<Case>,
    value: Read,
}

/// Reads a figure.
type Read = fn(&Outcome) -> Option<f64>;

/// What tells runs of `saturate` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    channels: u64,
    publishers: u64,
    pipelined: u64,
}

impl Case {
    fn of(outcome: &Outcome) -> Option<Self> {
        let number = |name| outcome.parameters.get(name).and_then(Value::as_u64);
        (outcome.scenario == SATURATE)
            .then(|| {
                let (channels, publishers) = (number("channels")?, number("publishers")?);
                Some(Self { channels, publishers, pipelined: number("pipelined")? })
            })
            .flatten()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, publishers, pipelined } = self;
        write!(f, "{channels} channels saturated by {publishers} x {pipelined}")
    }
}

const COLUMNS: &[Column] = &[
    Column {
        title: Cow::Borrowed("paced: CPU, µs a delivery"),
        scenario: "paced",
        case: None,
        value: |outcome| figure(outcome, "server_cpu_us_per_delivery"),
    },
    Column { title: Cow::Borrowed("paced: p99, ms"), scenario: "paced", case: None, value: p99_ms },
    Column {
        title: Cow::Borrowed("burst: CPU, µs a delivery"),
        scenario: "burst",
        case: None,
        value: |outcome| figure(outcome, "server_cpu_us_per_delivery"),
    },
    Column {
        title: Cow::Borrowed("burst: deliveries/s"),
        scenario: "burst",
        case: None,
        value: |outcome| figure(outcome, "deliveries_per_s"),
    },
    Column { title: Cow::Borrowed("burst: p99, ms"), scenario: "burst", case: None, value: p99_ms },
    Column {
        title: Cow::Borrowed("many channels: CPU, µs a delivery"),
        scenario: "many_channels",
        case: None,
        value: |outcome| figure(outcome, "server_cpu_us_per_delivery"),
    },
    Column {
        title: Cow::Borrowed("bytes an idle connection"),
        scenario: "idle",
        case: None,
        value: |outcome| figure(outcome, "server_resident_bytes_per_connection"),
    },
    Column {
        title: Cow::Borrowed("connects/s"),
        scenario: "idle",
        case: None,
        value: |outcome| figure(outcome, "connects_per_s"),
    },
    Column {
        title: Cow::Borrowed("polls: CPU, µs a cycle"),
        scenario: "poll",
        case: None,
        value: |outcome| figure(outcome, "server_cpu_us_per_cycle"),
    },
    Column {
        title: Cow::Borrowed("polls: all answered, ms"),
        scenario: "poll",
        case: None,
        value: |outcome| figure(outcome, "all_answered_ms"),
    },
    Column {
        title: Cow::Borrowed("bytes a waiting poll"),
        scenario: "poll",
        case: None,
        value: |outcome| figure(outcome, "server_resident_bytes_per_waiter"),
    },
    Column {
        title: Cow::Borrowed("on disk, 1 publisher: publishes/s"),
        scenario: "durable",
        case: None,
        value: |outcome| figure(outcome, "publishes_per_s_1_publishers"),
    },
    Column {
        title: Cow::Borrowed("on disk, 1 publisher: p99, ms"),
        scenario: "durable",
        case: None,
        value: |outcome| figure_ms(outcome, "answer_p99_us_1_publishers"),
    },
    Column {
        title: Cow::Borrowed("on disk, 64 publishers: publishes/s"),
        scenario: "durable",
        case: None,
        value: |outcome| figure(outcome, "publishes_per_s_64_publishers"),
    },
    Column {
        title: Cow::Borrowed("on disk, 64 publishers: p99, ms"),
        scenario: "durable",
        case: None,
        value: |outcome| figure_ms(outcome, "answer_p99_us_64_publishers"),
    },
    Column {
        title: Cow::Borrowed("on disk, 256 publishers: publishes/s"),
        scenario: "durable",
        case: None,
        value: |outcome| figure(outcome, "publishes_per_s_256_publishers"),
    },
    Column {
        title: Cow::Borrowed("on disk, 256 publishers: p99, ms"),
        scenario: "durable",
        case: None,
        value: |outcome| figure_ms(outcome, "answer_p99_us_256_publishers"),
    },
];

/// Figures of each case of `saturate`.
const OF_CASES: &[(&str, Read)] = &[
    ("deliveries/s", |outcome| figure(outcome, "deliveries_per_s")),
    ("CPU, µs a delivery", |outcome| figure(outcome, "server_cpu_us_per_delivery")),
    ("p99, ms", p99_ms),
];

/// All columns of these outcomes.
fn columns(outcomes: &[Outcome]) -> Vec<Column> {
    let cases: BTreeSet<Case> = outcomes.iter().filter_map(Case::of).collect();
    let of_cases = cases.into_iter().flat_map(|case| {
        OF_CASES.iter().map(move |(what, value)| Column {
            title: format!("{case}: {what}").into(),
            scenario: SATURATE,
            case: Some(case),
            value: *value,
        })
    });
    COLUMNS.iter().cloned().chain(of_cases).collect()
}

impl<'a> Table<'a> {
    /// # Errors
    ///
    /// Runs with different sizes cannot stand in one table.
    pub(crate) fn new(outcomes: &'a [Outcome]) -> Result<Self, String> {
        let mut sizes: BTreeMap<_, BTreeMap<&str, &Value>> = BTreeMap::new();
        for outcome in outcomes.iter().filter(|outcome| failure_of(outcome).is_none()) {
            let own = outcome.parameters.iter().map(|(name, value)| (name.as_str(), value));
            let own: BTreeMap<_, _> = own.collect();
            let key = (&outcome.scenario, Case::of(outcome));
            if *sizes.entry(key).or_insert_with(|| own.clone()) != own {
                return Err(format!("{} was run with different sizes", outcome.scenario));
            }
        }
        let mut servers = Vec::new();
        for outcome in outcomes {
            if !servers.contains(&outcome.subject.as_str()) {
                servers.push(&outcome.subject);
            }
        }
        let faults = faults(outcomes);
        Ok(Self { outcomes, columns: columns(outcomes), servers, faults })
    }

    /// How many servers are absent and runs failed.
    pub(crate) fn faults(&self) -> usize {
        self.faults.len()
    }

    fn values(&self, server: &str, column: &Column) -> BTreeMap<u32, f64> {
        let mine = self.outcomes.iter().filter(|outcome| {
            outcome.subject == server
                && outcome.scenario == column.scenario
                && Case::of(outcome) == column.case
        });
        mine.filter_map(|outcome| Some((outcome.round, (column.value)(outcome)?))).collect()
    }

    /// The median over the rounds of the ratios within each round.
    fn ratio(&self, server: &str, base: &str, column: &Column) -> Option<f64> {
        let base = self.values(base, column);
        let ratios = self.values(server, column).into_iter().filter_map(|(round, value)| {
            let base = base.get(&round).filter(|base| **base > 0.0)?;
            Some(value / base)
        });
        median(ratios.collect())
    }

    fn failed(&self, server: &str, scenario: &str) -> bool {
        self.outcomes.iter().any(|outcome| {
            outcome.subject == server
                && [scenario, INSTALL].contains(&outcome.scenario.as_str())
                && failure_of(outcome).is_some()
        })
    }

    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        title: &str,
        cell: impl Fn(&str, &Column) -> Option<String>,
    ) -> fmt::Result {
        write!(f, "| {title} |")?;
        self.columns.iter().try_for_each(|column| write!(f, " {} |", column.title))?;
        write!(f, "\n|---|{}\n", "---|".repeat(self.columns.len()))?;
        for server in &self.servers {
            write!(f, "| {server} |")?;
            for column in &self.columns {
                let text = match cell(server, column) {
                    Some(text) => text,
                    None if self.failed(server, column.scenario) => "see below".to_owned(),
                    None => "-".to_owned(),
                };
                write!(f, " {text} |")?;
            }
            writeln!(f)?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("x {FLOOR} / x {HUB}");
        self.write(f, &title, |server, column| {
            let ratio = |base| self.ratio(server, base, column).map(two_digits);
            let (floor, hub) = (ratio(FLOOR), ratio(HUB));
            if floor.is_none() && hub.is_none() {
                return None;
            }
            let dash = || "-".to_owned();
            Some(format!("{} / {}", floor.unwrap_or_else(dash), hub.unwrap_or_else(dash)))
        })?;
        self.write(f, "figures", |server, column| {
            median(self.values(server, column).into_values().collect()).map(two_digits)
        })?;
        let rounds = self.outcomes.iter().map(|outcome| outcome.round).max().unwrap_or(0);
        let clean = self.outcomes.iter().filter(|outcome| failure_of(outcome).is_none());
        let checked: u64 = clean.map(|outcome| outcome.verified.deliveries).sum();
        writeln!(
            f,
            "Medians over {rounds} round{}. {checked} deliveries were checked: in what has figures \
             none was lost, repeated, out of order or changed.",
            if rounds == 1 { "" } else { "s" }
        )?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "- {fault}"))
    }
}

/// A server that could be installed later is not absent.
fn faults(outcomes: &[Outcome]) -> Vec<String> {
    let mut faults = Vec::new();
    for outcome in outcomes {
        let Some(why) = failure_of(outcome) else { continue };
        let Outcome { subject, scenario, round, .. } = outcome;
        let fault = if scenario == INSTALL {
            if outcomes.iter().any(|other| other.subject == *subject && other.scenario != INSTALL) {
                continue;
            }
            format!("{subject} is absent: {why}")
        } else {
            format!("{subject}, {scenario}, round {round}: {why}")
        };
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    faults
}

fn figure(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.figures.get(name).copied()
}

fn figure_ms(outcome: &Outcome, name: &str) -> Option<f64> {
    Some(figure(outcome, name)? / 1_000.0)
}

fn p99_ms(outcome: &Outcome) -> Option<f64> {
    Some(outcome.latency_us.as_ref()?.p99 / 1_000.0)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn two_digits(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The names of the two that all others are set against.
const FLOOR: &str = "floor";
const HUB: &str = "visnyk";
/// The scenario that is run with several sizes.
const SATURATE: &str = "saturate";

#[cfg(test)]
mod tests {
    use visnyk_loadtest::{Failure, Scenario};

    use super::super::results::failed;
    use super::*;

    fn paced(subject: &str, round: u32, cpu_us: f64) -> Outcome {
        Outcome {
            scenario: "paced".into(),
            subject: subject.into(),
            round,
            figures: BTreeMap::from([("server_cpu_us_per_delivery".to_owned(), cpu_us)]),
            ..Outcome::default()
        }
    }

    #[test]
    fn ratios_are_within_a_round_and_their_median_counts() {
        let outcomes = [
            paced("floor", 1, 1.0),
            paced("visnyk", 1, 2.0),
            paced("floor", 2, 10.0),
            paced("visnyk", 2, 30.0),
            paced("floor", 3, 2.0),
            paced("visnyk", 3, 8.0),
        ];
        let text = Table::new(&outcomes).expect("the sizes are the same").to_string();
        assert!(text.contains("| floor | 1.00 / 0.33 |"), "{text}");
        assert!(text.contains("| visnyk | 3.00 / 1.00 |"), "{text}");
        assert!(text.contains("| visnyk | 8.00 |"), "{text}");
    }

    #[test]
    fn what_is_absent_or_failed_is_said() {
        let scenario = Scenario::from_words("paced".split(' '));
        let verified = visnyk_loadtest::outcome::Verified { lost: 7, ..Default::default() };
        let failure = Failure::Faulty { first: "event 3 never came".into(), verified };
        let absent = Outcome {
            scenario: INSTALL.into(),
            subject: "nginx".into(),
            parameters: BTreeMap::from([("failure".to_owned(), Value::from("no network"))]),
            ..Outcome::default()
        };
        let outcomes = [paced("floor", 1, 1.0), failed(&scenario, "express", &failure), absent];
        let table = Table::new(&outcomes).expect("the sizes are the same");
        assert_eq!(table.faults(), 2);
        let text = table.to_string();
        assert!(text.contains("| express | see below |"), "{text}");
        assert!(text.contains("lost: 7"), "{text}");
        assert!(text.contains("- nginx is absent: no network"), "{text}");
        let later = [outcomes[2].clone(), paced("nginx", 1, 1.0)];
        assert_eq!(Table::new(&later).expect("the sizes are the same").faults(), 0);
    }

    #[test]
    fn each_case_of_saturate_has_columns_of_its_own() {
        let saturated = |subject: &str, channels: u64, publishers: u64, per_s: f64| Outcome {
            scenario: SATURATE.into(),
            subject: subject.into(),
            round: 1,
            parameters: BTreeMap::from([
                ("channels".to_owned(), Value::from(channels)),
                ("publishers".to_owned(), Value::from(publishers)),
                ("pipelined".to_owned(), Value::from(17 - publishers.min(16))),
            ]),
            figures: BTreeMap::from([("deliveries_per_s".to_owned(), per_s)]),
            ..Outcome::default()
        };
        let outcomes = [
            saturated("visnyk", 200, 1, 10.0),
            saturated("peer", 200, 1, 5.0),
            saturated("visnyk", 200, 64, 10.0),
            saturated("peer", 200, 64, 30.0),
            saturated("visnyk", 1_000, 1, 4.0),
        ];
        let text = Table::new(&outcomes).expect("the sizes of each case are the same").to_string();
        for title in
            ["200 channels saturated by 1 x 16: deliveries/s", "200 channels saturated by 64 x 1"]
        {
            assert!(text.contains(title), "{text}");
        }
        assert!(text.contains("- / 0.50") && text.contains("- / 3.00"), "{text}");
    }

    #[test]
    fn different_sizes_do_not_stand_in_one_table() {
        let mut larger = paced("visnyk", 1, 1.0);
        larger.parameters.insert("subscribers".into(), Value::from(2));
        assert!(Table::new(&[paced("floor", 1, 1.0), larger]).is_err());
    }
}
