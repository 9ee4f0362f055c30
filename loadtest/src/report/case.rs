//! Runs of the same thing gathered: medians, spread over rounds, ratios to a baseline.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::figure::figures;
use super::number::tick;
use super::text::words;
use crate::outcome::Outcome;

/// The name of the subject that all others are held against.
pub(crate) const FLOOR: &str = "floor";
/// What a hub with its log on disk is held against.
pub(crate) const MEMORY: &str = "memory";

/// A scenario at one set of sizes, run against some subjects for some rounds.
#[derive(Debug, Clone)]
pub(crate) struct Case<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) parameters: &'a BTreeMap<String, Value>,
    /// In the order of [`subjects`].
    pub(crate) entries: Vec<Entry<'a>>,
}

/// The runs of a case against one subject.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) subject: &'a str,
    pub(crate) runs: Vec<&'a Outcome>,
}

/// A figure over some rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Rounds that gave it.
    pub(crate) rounds: usize,
}

impl Spread {
    /// `None` of no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, low, high, rounds: values.len() })
    }

    /// "4.03 (3.98–4.11)", in the given form; without a spread if it is not visible.
    pub(crate) fn shown(&self, form: impl Fn(f64) -> String) -> String {
        let [median, low, high] = [self.median, self.low, self.high].map(form);
        if low == high { median } else { format!("{median} ({low}–{high})") }
    }
}

/// All cases, scenarios in the order of their first run, sizes in theirs.
pub(crate) fn cases(outcomes: &[Outcome]) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for outcome in outcomes {
        let same = |case: &&mut Case<'_>| {
            case.scenario == outcome.scenario && *case.parameters == outcome.parameters
        };
        let case = match cases.iter_mut().find(same) {
            Some(case) => case,
            None => {
                cases.push(Case {
                    scenario: &outcome.scenario,
                    parameters: &outcome.parameters,
                    entries: Vec::new(),
                });
                cases.last_mut().expect("one was just added")
            }
        };
        match case.entries.iter_mut().find(|entry| entry.subject == outcome.subject) {
            Some(entry) => entry.runs.push(outcome),
            None => {
                case.entries.push(Entry { subject: &outcome.subject, runs: vec![outcome] });
            }
        }
    }
    let order = subjects(outcomes);
    let rank = |subject: &str| order.iter().position(|known| *known == subject);
    for case in &mut cases {
        case.entries.sort_by_key(|entry| rank(entry.subject));
    }
    let mut scenarios: Vec<&str> = Vec::new();
    for case in &cases {
        if !scenarios.contains(&case.scenario) {
            scenarios.push(case.scenario);
        }
    }
    let sizes = |case: &Case<'_>| -> Vec<(String, f64, String)> {
        let size = |(name, value): (&String, &Value)| {
            (name.clone(), value.as_f64().unwrap_or(0.0), value.to_string())
        };
        case.parameters.iter().map(size).collect()
    };
    cases.sort_by(|a, b| {
        let rank = |case: &Case<'_>| scenarios.iter().position(|name| *name == case.scenario);
        let by_size = || sizes(a).partial_cmp(&sizes(b)).unwrap_or(std::cmp::Ordering::Equal);
        rank(a).cmp(&rank(b)).then_with(by_size)
    });
    cases
}

/// All subjects: the hub and its variants, the floor, then the others by name. A subject's index is
/// its style in every plot.
pub(crate) fn subjects(outcomes: &[Outcome]) -> Vec<&str> {
    let mut subjects: Vec<&str> = outcomes.iter().map(|outcome| &*outcome.subject).collect();
    subjects.sort_by_key(|name| {
        let kind = match *name {
            name if name.starts_with("visnyk") => 0,
            FLOOR | MEMORY => 1,
            _ => 2,
        };
        (kind, *name)
    });
    subjects.dedup();
    subjects
}

impl<'a> Case<'a> {
    /// The runs against a subject.
    pub(crate) fn entry(&self, subject: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.subject == subject)
    }

    /// The names of all figures of its runs, in their order.
    pub(crate) fn figure_names(&self) -> Vec<String> {
        let runs = self.entries.iter().flat_map(|entry| &entry.runs);
        let mut names: Vec<String> = runs.flat_map(|run| figures(run).into_keys()).collect();
        names.sort_by_key(|name| (name.starts_with("latency_"), latency_rank(name), name.clone()));
        names.dedup();
        names
    }

    /// A subject's figure divided by the baseline's, round by round; `None` for the baseline
    /// itself.
    pub(crate) fn ratio(&self, subject: &str, figure: &str) -> Option<Spread> {
        let ratios = self.beside_baseline(subject).filter_map(|(run, baseline)| {
            let baseline = *figures(baseline).get(figure)?;
            (baseline > 0.0).then_some(figures(run).get(figure)? / baseline)
        });
        Spread::of(ratios.collect())
    }

    /// By how much a subject's figure, in microseconds, is above `times` the baseline's, in fsyncs
    /// (their 99th percentile), round by round.
    pub(crate) fn fsyncs_above(&self, subject: &str, figure: &str, times: f64) -> Option<Spread> {
        let fsyncs = self.beside_baseline(subject).filter_map(|(run, baseline)| {
            let (run, baseline) = (figures(run), figures(baseline));
            let above_us = run.get(figure)? - times * baseline.get(figure)?;
            Some(above_us / run.get("fsync_p99_us").filter(|us| **us > 0.0)?)
        });
        Spread::of(fsyncs.collect())
    }

    /// The runs of a subject that is not the baseline, each with the baseline's run of the same
    /// round on the same machine that began nearest to it, if that was within [`SITTING_S`]: what a
    /// machine gives changes by the hour.
    fn beside_baseline(
        &self,
        subject: &str,
    ) -> impl Iterator<Item = (&'a Outcome, &'a Outcome)> + use<'_, 'a> {
        let baseline = [FLOOR, MEMORY].iter().find_map(|name| self.entry(name));
        let baseline = baseline.filter(|entry| entry.subject != subject);
        let baseline = baseline.map_or(&[][..], |entry| &entry.runs);
        let runs = self.entry(subject).map_or(&[][..], |entry| &entry.runs);
        runs.iter().filter_map(|run| {
            let beside = baseline.iter().filter(|other| {
                other.round == run.round
                    && other.machine.kernel == run.machine.kernel
                    && other.machine.cores == run.machine.cores
            });
            let (apart_s, nearest) = beside
                .filter_map(|other| Some((apart_s(run, other)?, other)))
                .min_by_key(|(apart_s, _)| *apart_s)?;
            (apart_s <= SITTING_S).then_some((*run, *nearest))
        })
    }

    /// A parameter's value as a number.
    pub(crate) fn size(&self, parameter: &str) -> Option<f64> {
        self.parameters.get(parameter)?.as_f64()
    }
}

impl<'a> Entry<'a> {
    /// A figure over all rounds.
    pub(crate) fn figure(&self, name: &str) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| figures(run).remove(name)).collect())
    }

    /// The run in the middle by its 99th percentile, or by its round where none was timed: whole
    /// curves cannot be averaged honestly, so one real one stands for all.
    pub(crate) fn middle_run(&self) -> &'a Outcome {
        let mut runs = self.runs.clone();
        let p99 = |run: &Outcome| run.latency_us.map_or(0.0, |latency| latency.p99);
        runs.sort_by(|a, b| p99(a).total_cmp(&p99(b)).then(a.round.cmp(&b.round)));
        runs[(runs.len() - 1) / 2]
    }
}

/// A parameter in words: "10,000 subscribers", "mode pipelined", "settle 2 s".
pub(crate) fn size_in_words(name: &str, value: &Value) -> String {
    let shown = shown(value);
    match (name, value) {
        ("payload", _) => format!("{shown} bytes of payload"),
        ("rate", _) => format!("{shown} events per second"),
        (_, Value::Number(_) | Value::Array(_)) => match name.strip_suffix("_s") {
            Some(wait) => format!("{} {shown} s", words(wait)),
            None => format!("{shown} {}", words(name)),
        },
        _ => format!("{} {shown}", words(name)),
    }
}

/// A parameter's value in words.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Number(n) => n.as_f64().map_or_else(|| n.to_string(), tick),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" / "),
        other => other.to_string(),
    }
}

/// Latencies by how far out they are, not by name.
fn latency_rank(name: &str) -> usize {
    const ORDER: [&str; 5] = ["p50", "p90", "p99_ms", "p99_9", "max"];
    let rest = name.strip_prefix("latency_").unwrap_or_default();
    ORDER.iter().position(|start| rest.starts_with(start)).unwrap_or(0)
}

fn apart_s(a: &Outcome, b: &Outcome) -> Option<i64> {
    let at = |outcome: &Outcome| outcome.started_at.parse::<Timestamp>().ok();
    Some((at(a)?.as_second() - at(b)?.as_second()).abs())
}

/// Runs that began further apart than this many seconds are not of one sitting.
const SITTING_S: i64 = 1_800;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::number::number;

    fn run(subject: &str, round: u32, minute: u32, cpu: f64) -> Outcome {
        Outcome {
            scenario: "paced".into(),
            subject: subject.into(),
            round,
            started_at: format!("2026-01-01T10:{minute:02}:00Z"),
            figures: [("cpu_us".to_owned(), cpu)].into(),
            ..Outcome::default()
        }
    }

    #[test]
    fn median_is_of_the_middle() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).expect("three values");
        assert_eq!((spread.median, spread.low, spread.high, spread.rounds), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of(vec![4.0, 1.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(vec![f64::NAN]), None);
        assert_eq!(
            Spread::of(vec![0.294]).map(|spread| spread.shown(number)),
            Some("0.294".into())
        );
        assert_eq!(spread.shown(number), "2.00 (1.00–3.00)");
    }

    #[test]
    fn ratio_is_taken_within_a_round() {
        // The machine was twice as slow in round 2: the medians alone would say 1.5 / 1.0.
        let outcomes = [
            run("floor", 1, 0, 1.0),
            run("visnyk", 1, 5, 1.1),
            run("floor", 2, 6, 2.0),
            run("visnyk", 2, 11, 2.2),
        ];
        let cases = cases(&outcomes);
        let ratio = cases[0].ratio("visnyk", "cpu_us").expect("both ran");
        assert!((ratio.low - 1.1).abs() < 1e-9 && (ratio.high - 1.1).abs() < 1e-9, "{ratio:?}");
        assert_eq!(ratio.rounds, 2);
        assert_eq!(cases[0].ratio("floor", "cpu_us"), None);
    }

    #[test]
    fn disk_is_held_against_memory() {
        let on_disk = |subject: &str, round, answer_us| {
            let mut run = run(subject, round, round, answer_us);
            run.figures.insert("fsync_p99_us".into(), 200.0);
            run
        };
        let outcomes = [
            on_disk("memory", 1, 100.0),
            on_disk("visnyk", 1, 340.0),
            on_disk("memory", 2, 200.0),
            on_disk("visnyk", 2, 480.0),
        ];
        let case = &cases(&outcomes)[0];
        let fsyncs = |times| case.fsyncs_above("visnyk", "cpu_us", times).expect("both ran").median;
        assert!((fsyncs(1.0) - 1.3).abs() < 1e-9, "{}", fsyncs(1.0));
        assert!((fsyncs(1.2) - 1.15).abs() < 1e-9, "{}", fsyncs(1.2));
        let ratio = case.ratio("visnyk", "cpu_us").expect("both ran");
        assert!((ratio.median - 2.9).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn another_sitting_is_no_measure() {
        let outcomes = [run("floor", 1, 0, 1.0), run("visnyk", 1, 31, 1.0)];
        assert_eq!(cases(&outcomes)[0].ratio("visnyk", "cpu_us"), None);
        let mut outcomes = [run("floor", 1, 0, 1.0), run("visnyk", 1, 1, 1.0)];
        outcomes[0].machine.kernel = "other".into();
        assert_eq!(cases(&outcomes)[0].ratio("visnyk", "cpu_us"), None);
    }

    #[test]
    fn nearest_run_of_the_floor_counts() {
        let outcomes =
            [run("floor", 1, 0, 1.0), run("floor", 1, 20, 4.0), run("visnyk", 1, 19, 4.0)];
        let ratio = cases(&outcomes)[0].ratio("visnyk", "cpu_us").expect("both ran");
        assert_eq!(ratio.median, 1.0);
    }

    #[test]
    fn sizes_make_cases() {
        let mut outcomes = [run("visnyk", 1, 0, 1.0), run("visnyk", 1, 1, 1.0)];
        outcomes[0].parameters.insert("subscribers".into(), 10_000.into());
        outcomes[1].parameters.insert("subscribers".into(), 1_000.into());
        let cases = cases(&outcomes);
        let sizes: Vec<_> = cases.iter().map(|case| case.size("subscribers")).collect();
        assert_eq!(sizes, [Some(1_000.0), Some(10_000.0)]);
    }

    #[test]
    fn hub_comes_first_then_the_floor() {
        let outcomes =
            ["axum", "floor", "visnyk", "visnyk_h2", "axum"].map(|name| run(name, 1, 0, 1.0));
        assert_eq!(subjects(&outcomes), ["visnyk", "visnyk_h2", "floor", "axum"]);
    }
}
