//! Which plots some results give: latency by percentile, curves over time or connections, and
//! costs over sizes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::case::{Case, Entry, Spread, size_in_words, subjects};
use super::chart::{Axis, Chart, Line, Point};
use super::figure::{is_minor, label, unit};
use super::scale::Scale;
use super::text::{capitalised, slug, words};
use crate::outcome::{Outcome, Series};

/// All plots, those of a scenario together, in the order of the cases. No two have one name.
pub(crate) fn plots(outcomes: &[Outcome], cases: &[Case<'_>]) -> Vec<Chart> {
    let painter = Painter { subjects: subjects(outcomes) };
    let mut plots: Vec<Chart> = Vec::new();
    for of_one in cases.chunk_by(|a, b| a.scenario == b.scenario) {
        let charts = of_one.iter().flat_map(|case| {
            let sizes = distinguishing(case, of_one);
            painter.latency(case, &sizes).into_iter().chain(painter.series(case, &sizes))
        });
        plots.extend(charts.chain(painter.costs(of_one)));
    }
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for chart in &mut plots {
        let times = taken.entry(chart.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            chart.name = format!("{}--{times}", chart.name);
        }
    }
    plots
}

/// The names of the sizes in which cases of one scenario differ.
pub(crate) fn varying<'a>(cases: &[Case<'a>]) -> Vec<&'a str> {
    let Some(first) = cases.first() else { return Vec::new() };
    let mut names: Vec<&str> =
        cases.iter().flat_map(|case| case.parameters.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| {
        cases.iter().any(|case| case.parameters.get(*name) != first.parameters.get(*name))
    });
    names
}

/// What tells a case from the others of its scenario: "1,000 subscribers"; empty if it is alone.
fn distinguishing(case: &Case<'_>, all: &[Case<'_>]) -> String {
    let size = |name: &&str| Some(size_in_words(name, case.parameters.get(*name)?));
    varying(all).iter().filter_map(size).collect::<Vec<_>>().join(", ")
}

/// Gives each subject its style.
struct Painter<'a> {
    subjects: Vec<&'a str>,
}

impl Painter<'_> {
    fn latency(&self, case: &Case<'_>, sizes: &str) -> Option<Chart> {
        let points = |run: &Outcome| -> Vec<Point> {
            let count = run.latency_us.map_or(0, |latency| latency.count);
            let points = run.percentiles.iter().map(|(percentile, us)| {
                // The maximum is at 100 %, which the axis cannot show.
                let last = 100.0 - 100.0 / (count.max(2) as f64);
                Point::at((percentile.min(last), us / 1_000.0))
            });
            points.collect()
        };
        let lines = self.lines(case, |entry| points(entry.middle_run()));
        let x = Axis { label: "percentile".into(), scale: Scale::Tail };
        let y = Axis { label: "ms from due to received".into(), scale: Scale::Log };
        chart("latency", case.scenario, sizes, "latency by percentile", x, y, lines)
    }

    fn series(&self, case: &Case<'_>, sizes: &str) -> Vec<Chart> {
        let all = case.entries.iter().flat_map(|entry| &entry.middle_run().series);
        let mut kinds: Vec<&Series> = Vec::new();
        for series in all {
            if !kinds.iter().any(|kind| is_same_kind(kind, series)) {
                kinds.push(series);
            }
        }
        let charts = kinds.into_iter().filter_map(|kind| {
            let lines = self.lines(case, |entry| curve(entry, kind));
            let values = lines.iter().flat_map(|line| &line.points).map(|point| point.x);
            let x_scale = if kind.x_unit == "s" { Scale::Linear } else { scale_for(values) };
            let x = Axis { label: unit(&kind.x_unit), scale: x_scale };
            let y = Axis { label: unit(&kind.y_unit), scale: Scale::Linear };
            chart(&kind.name, case.scenario, sizes, &words(&kind.name), x, y, lines)
        });
        charts.collect()
    }

    /// What a delivery or a connection costs, over each size that was varied on its own.
    fn costs(&self, cases: &[Case<'_>]) -> Vec<Chart> {
        let mut charts = Vec::new();
        for (size, size_label) in SIZES {
            let ladder = ladder(cases, size);
            let Some(first) = ladder.first() else { continue };
            for figure in first.figure_names().iter().filter(|name| is_cost(name)) {
                let lines = self.subjects.iter().enumerate().map(|(style, subject)| {
                    let point = |case: &&Case<'_>| {
                        let (x, y) = (case.size(size)?, case.entry(subject)?.figure(figure)?);
                        Some(Point { x, y: y.median, spread: (y.low, y.high) })
                    };
                    let points = ladder.iter().filter_map(point).collect();
                    Line { label: words(subject), style, points }
                });
                let scale = scale_for(ladder.iter().filter_map(|case| case.size(size)));
                let x = Axis { label: size_label.into(), scale };
                let y = Axis { label: label(figure), scale: Scale::Linear };
                let what = label(figure);
                let what = what.split(',').next().unwrap_or_default();
                let kind = format!("{figure}-by-{size}");
                let title = format!("{} by {}", lower_first(what), words(size));
                charts.extend(chart(&kind, first.scenario, "", &title, x, y, lines.collect()));
            }
        }
        charts
    }

    fn lines(&self, case: &Case<'_>, points: impl Fn(&Entry<'_>) -> Vec<Point>) -> Vec<Line> {
        let lines = self.subjects.iter().enumerate().filter_map(|(style, subject)| {
            let points = points(case.entry(subject)?);
            Some(Line { label: words(subject), style, points })
        });
        lines.collect()
    }
}

/// The cases that differ in `size` and in no other size: the most there are.
fn ladder<'a, 'b>(cases: &'b [Case<'a>], size: &str) -> Vec<&'b Case<'a>> {
    let others = |case: &Case<'_>| -> Vec<(String, Value)> {
        let is_other = |name: &str, value: &Value| {
            name != size && (!value.is_number() || SIZES.iter().any(|(known, _)| *known == name))
        };
        let others = case.parameters.iter().filter(|(name, value)| is_other(name, value));
        others.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let mut best: Vec<&Case<'_>> = Vec::new();
    for case in cases {
        let mut of_one: Vec<&Case<'_>> = cases
            .iter()
            .filter(|other| others(other) == others(case) && other.size(size).is_some())
            .collect();
        of_one.sort_by(|a, b| {
            a.size(size).partial_cmp(&b.size(size)).unwrap_or(std::cmp::Ordering::Equal)
        });
        of_one.dedup_by(|a, b| a.size(size) == b.size(size));
        if of_one.len() > best.len().max(1) {
            best = of_one;
        }
    }
    best
}

fn is_same_kind(a: &Series, b: &Series) -> bool {
    a.name == b.name && a.x_unit == b.x_unit && a.y_unit == b.y_unit
}

/// A curve over rounds: over time that of the middle run; over anything else, which is the same in
/// each run, the medians.
fn curve(entry: &Entry<'_>, kind: &Series) -> Vec<Point> {
    let of = |run: &'_ Outcome| -> Vec<(f64, f64)> {
        let same = run.series.iter().find(|series| is_same_kind(kind, series));
        same.map_or_else(Vec::new, |series| series.points.clone())
    };
    let middle = of(entry.middle_run());
    if kind.x_unit == "s" {
        return middle.into_iter().map(Point::at).collect();
    }
    let points = middle.into_iter().filter_map(|(x, _)| {
        let at_x = entry.runs.iter().flat_map(|run| of(run)).filter(|(other, _)| *other == x);
        let y = Spread::of(at_x.map(|(_, y)| y).collect())?;
        Some(Point { x, y: y.median, spread: (y.low, y.high) })
    });
    points.collect()
}

/// By powers of ten where values are far apart.
fn scale_for(values: impl Iterator<Item = f64>) -> Scale {
    let (low, high) = values
        .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low > 0.0 && high / low > WIDE { Scale::Log } else { Scale::Linear }
}

fn is_cost(figure: &str) -> bool {
    !is_minor(figure) && (figure.starts_with("server_cpu") || figure.contains("bytes"))
}

/// `None` if there is nothing to draw.
fn chart(
    kind: &str,
    scenario: &str,
    sizes: &str,
    what: &str,
    x: Axis,
    y: Axis,
    mut lines: Vec<Line>,
) -> Option<Chart> {
    lines.retain(|line| !line.points.is_empty());
    if lines.is_empty() {
        return None;
    }
    let sizes_in_title = if sizes.is_empty() { String::new() } else { format!(" ({sizes})") };
    Some(Chart {
        name: slug(&format!("{scenario} {kind} {sizes}")),
        title: format!("{}: {what}{sizes_in_title}", capitalised(&words(scenario))),
        x,
        y,
        lines,
    })
}

/// A label goes on within a title; "CPU" stays.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// Sizes over which costs are drawn, with the label of their axis.
const SIZES: [(&str, &str); 6] = [
    ("subscribers", "subscribers"),
    ("connections", "connections"),
    ("channels", "channels"),
    ("patterns", "patterns"),
    ("payload", "bytes of payload"),
    ("publishers", "publishers"),
];

/// An axis whose values differ by more than this is by powers of ten.
const WIDE: f64 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::case::cases;
    use crate::report::example::outcomes;

    fn of(outcomes: &[Outcome]) -> Vec<Chart> {
        plots(outcomes, &cases(outcomes))
    }

    #[test]
    fn sizes_tell_plots_of_one_scenario_apart() {
        let charts = of(&outcomes());
        let names: Vec<&str> = charts.iter().map(|chart| &*chart.name).collect();
        assert_eq!(
            names,
            [
                "paced-latency-1-000-subscribers",
                "paced-deliveries-a-second-1-000-subscribers",
                "paced-latency-10-000-subscribers",
                "paced-deliveries-a-second-10-000-subscribers",
                "paced-server-cpu-us-per-delivery-by-subscribers",
                "burst-latency",
                "burst-deliveries-a-second",
            ]
        );
    }

    #[test]
    fn cost_is_the_median_with_its_spread() {
        let mut outcomes = outcomes();
        let figure = "server_cpu_us_per_delivery".to_owned();
        outcomes[0].figures.insert(figure, 5.0);
        let charts = of(&outcomes);
        let cost = charts.iter().find(|chart| chart.name.contains("-by-")).expect("a cost");
        let hub = &cost.lines[0];
        assert_eq!((&*hub.label, hub.style), ("visnyk", 0));
        assert_eq!(hub.points[0], Point { x: 1_000.0, y: 4.7, spread: (4.4, 5.0) });
        assert_eq!(hub.points[1].x, 10_000.0);
    }

    #[test]
    fn curve_over_sizes_is_of_medians_and_wide_ones_are_by_powers() {
        let mut outcomes = outcomes();
        for (index, run) in outcomes.iter_mut().filter(|run| run.scenario == "idle").enumerate() {
            run.series = vec![Series {
                name: "memory".into(),
                x_unit: "connections".into(),
                y_unit: "bytes".into(),
                points: vec![(100.0, 5.0), (18_000.0, index as f64)],
            }];
        }
        let charts = of(&outcomes);
        let memory = charts.iter().find(|chart| chart.name == "idle-memory").expect("drawn");
        assert_eq!(memory.x.scale, Scale::Log);
        let last = memory.lines[0].points[1];
        assert_eq!(last, Point { x: 18_000.0, y: 1.5, spread: (0.0, 3.0) });
        let over_time = charts.iter().find(|chart| chart.name == "burst-deliveries-a-second");
        assert_eq!(over_time.map(|chart| chart.x.scale), Some(Scale::Linear));
    }

    #[test]
    fn longest_is_drawn_at_one_of_so_many() {
        let charts = of(&outcomes());
        let last = charts[0].lines[0].points.last().copied().expect("there are points");
        assert_eq!((last.x, last.y), (99.9, 50.0));
    }

    #[test]
    fn names_that_collide_are_told_apart() {
        let mut outcomes = outcomes();
        let mut other = outcomes[2].clone();
        other.scenario = "Burst".into();
        outcomes.push(other);
        let mut names: Vec<String> = of(&outcomes).into_iter().map(|chart| chart.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
