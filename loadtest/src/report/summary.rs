//! What some results say in tables and sentences: where they ran, whether all was verified, and
//! the figures of each scenario beside one another.

use std::collections::BTreeMap;

use super::case::{Case, cases, shown, size_in_words, subjects};
use super::chart::Chart;
use super::figure::{is_minor, label};
use super::number::{number, ratio, tick};
use super::plots::{plots, varying};
use super::table::Table;
use super::text::{capitalised, words};
use crate::outcome::{Build, Machine, Outcome, Verified};

/// Results with everything that is worked out from them.
pub(crate) struct Summary<'a> {
    pub(crate) outcomes: &'a [Outcome],
    pub(crate) cases: Vec<Case<'a>>,
    pub(crate) plots: Vec<Chart>,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(outcomes: &'a [Outcome]) -> Self {
        let cases = cases(outcomes);
        let plots = plots(outcomes, &cases);
        Self { outcomes, cases, plots }
    }

    /// The cases of each scenario.
    pub(crate) fn scenarios(&self) -> impl Iterator<Item = &[Case<'a>]> {
        self.cases.chunk_by(|a, b| a.scenario == b.scenario)
    }

    /// The cases of one scenario; none if it did not run.
    pub(crate) fn scenario(&self, name: &str) -> &[Case<'a>] {
        self.scenarios().find(|cases| cases[0].scenario == name).unwrap_or_default()
    }

    /// A line for each machine: what it is, how many runs it made, and when.
    pub(crate) fn machines(&self) -> Vec<String> {
        let mut machines: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
        for outcome in self.outcomes {
            machines.entry(machine_in_words(&outcome.machine)).or_default().push(outcome);
        }
        let line = |(machine, runs): (String, Vec<&Outcome>)| {
            let days = runs.iter().map(|run| run.started_at.split('T').next().unwrap_or_default());
            let (first, last) = (days.clone().min(), days.max());
            let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
            let days = if first == last { first.into() } else { format!("{first} to {last}") };
            format!("{machine}: {} runs, {days}", runs.len())
        };
        machines.into_iter().map(line).collect()
    }

    /// A line for each build that was measured, as far as the results say it.
    pub(crate) fn builds(&self) -> Vec<String> {
        let mut builds: BTreeMap<(String, &Build), usize> = BTreeMap::new();
        for outcome in self.outcomes.iter().filter(|run| run.build != Build::default()) {
            *builds.entry((words(&outcome.subject), &outcome.build)).or_default() += 1;
        }
        let line = |((subject, build), runs): ((String, &Build), usize)| {
            let Build { version, sha256 } = build;
            let version = if version.is_empty() { "version not known" } else { version };
            format!("{subject}: {version}, SHA-256 {sha256}…, {runs} runs")
        };
        builds.into_iter().map(line).collect()
    }

    /// The runs at a steady rate in which events were delivered more slowly than they were due, in
    /// words: their latency is that of a queue, and their cost cannot be compared.
    pub(crate) fn overloads(&self) -> Vec<String> {
        let line = |outcome: &Outcome| {
            let (reached, due) = overload(outcome)?;
            let (reached, due) = (number(reached), number(due));
            let run = run_in_words(outcome);
            Some(format!("{run} did not keep up: {reached} deliveries per second of {due}"))
        };
        self.outcomes.iter().filter_map(line).collect()
    }

    /// All checks of all runs together.
    pub(crate) fn verified(&self) -> Verified {
        let mut all = Verified::default();
        for Outcome { verified, .. } in self.outcomes {
            all.events += verified.events;
            all.deliveries += verified.deliveries;
            all.lost += verified.lost;
            all.repeated += verified.repeated;
            all.reordered += verified.reordered;
            all.corrupt += verified.corrupt;
            all.gaps += verified.gaps;
        }
        all
    }

    /// The runs in which something was wrong, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let faulty = self.outcomes.iter().filter(|outcome| !outcome.verified.is_clean());
        let line = |outcome: &Outcome| {
            format!("{}: {}", run_in_words(outcome), faults_in_words(&outcome.verified))
        };
        faulty.map(line).collect()
    }

    /// The checks in a sentence.
    pub(crate) fn verified_in_words(&self) -> String {
        let all = self.verified();
        let begin = format!(
            "{} events were published and {} deliveries checked",
            number(all.events as f64),
            number(all.deliveries as f64),
        );
        if all.is_clean() {
            format!("{begin}: none was lost, repeated, reordered or changed.")
        } else {
            format!("{begin}: {}.", faults_in_words(&all))
        }
    }
}

/// Deliveries per second that were reached, and that were due, if a run at a steady rate did not
/// keep up.
pub(crate) fn overload(outcome: &Outcome) -> Option<(f64, f64)> {
    let rate = outcome.parameters.get("rate")?.as_f64()?;
    let figure = |name| outcome.figures.get(name).copied();
    let (deliveries, reached) = (figure("deliveries")?, figure("deliveries_per_s")?);
    let due = rate * deliveries / outcome.verified.events.max(1) as f64;
    (reached < due * KEPT_UP).then_some((reached, due))
}

/// The figures of a scenario: a row for each size and figure, a column for each subject with the
/// median over rounds, the spread, and the ratio to the floor. `only` names the figures, all if
/// it is empty.
pub(crate) fn scenario_table(cases: &[Case<'_>], only: &[&str]) -> Table {
    let runs: Vec<Outcome> =
        cases.iter().flat_map(|case| &case.entries).map(|entry| entry.runs[0].clone()).collect();
    let subjects = subjects(&runs);
    let sizes = varying(cases);
    let mut head: Vec<String> = sizes.iter().map(|name| words(name)).collect();
    head.push("figure".into());
    let labels = head.len();
    head.extend(subjects.iter().map(|subject| words(subject)));
    let mut rows = Vec::new();
    for case in cases {
        let all = case.figure_names();
        let chosen: Vec<&str> = match only {
            [] => all.iter().map(String::as_str).collect(),
            only => only.iter().copied().filter(|name| all.iter().any(|n| n == name)).collect(),
        };
        for name in chosen {
            let size = |size: &&str| case.parameters.get(*size).map_or("–".into(), shown);
            let mut row: Vec<String> = sizes.iter().map(size).collect();
            row.push(label(name));
            row.extend(subjects.iter().map(|subject| cell(case, subject, name)));
            rows.push(row);
        }
    }
    Table { head, labels, rows }
}

/// "4.03 (3.98–4.11)", and "×1.05" on a line of its own; a dash if the subject did not run or has
/// no such figure.
pub(crate) fn cell(case: &Case<'_>, subject: &str, figure: &str) -> String {
    let spread = case.entry(subject).and_then(|entry| entry.figure(figure));
    let Some(spread) = spread else { return "–".into() };
    match case.ratio(subject, figure) {
        Some(to_floor) => format!("{}\n{}", spread.shown(number), ratio(to_floor.median)),
        None => spread.shown(number),
    }
}

/// The figures of a scenario that say most; all of them if none does.
pub(crate) fn main_figures(cases: &[Case<'_>]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for figure in cases.iter().flat_map(Case::figure_names) {
        if !all.contains(&figure) {
            all.push(figure);
        }
    }
    let main: Vec<String> = all.iter().filter(|name| !is_minor(name)).cloned().collect();
    if main.is_empty() { all } else { main }
}

/// The sizes that all cases of a scenario share, and how many rounds there were.
pub(crate) fn common_sizes(cases: &[Case<'_>]) -> String {
    let Some(first) = cases.first() else { return String::new() };
    let varying = varying(cases);
    // Publishers are several in one mode of a burst alone.
    let is_idle = |name: &str| {
        let mode = first.parameters.get("mode").filter(|_| name == "publishers");
        mode.is_some_and(|mode| mode != "connections")
    };
    let common = first
        .parameters
        .iter()
        .filter(|(name, _)| !varying.contains(&name.as_str()) && !is_idle(name));
    let mut parts: Vec<String> = common.map(|(name, value)| size_in_words(name, value)).collect();
    let rounds = cases.iter().flat_map(|case| &case.entries).map(|entry| entry.runs.len());
    let (least, most) = (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0));
    parts.push(match (least, most) {
        (1, 1) => "1 round".into(),
        (least, most) if least == most => format!("{most} rounds"),
        (least, most) => format!("{least} to {most} rounds"),
    });
    capitalised(&parts.join(", ")) + "."
}

fn run_in_words(outcome: &Outcome) -> String {
    let Outcome { scenario, subject, round, .. } = outcome;
    format!("{} against {}, round {round}", capitalised(&words(scenario)), words(subject))
}

fn machine_in_words(machine: &Machine) -> String {
    format!(
        "{} cores, {:.0} GiB of memory, kernel {}, {} open files",
        machine.cores,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.kernel,
        tick(machine.nofile as f64),
    )
}

fn faults_in_words(verified: &Verified) -> String {
    let Verified { lost, repeated, reordered, corrupt, gaps, .. } = verified;
    format!(
        "{lost} lost, {repeated} repeated, {reordered} reordered, {corrupt} changed, {gaps} gaps"
    )
}

/// A server that delivers at least this share of what was due in time has kept up; the last event
/// is delivered after its time by any.
const KEPT_UP: f64 = 0.95;
