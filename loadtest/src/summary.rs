//! A table for people: medians over the rounds, and ratios to the floor.

use std::collections::BTreeSet;
use std::fmt::Write;

use visnyk_loadtest::Outcome;

/// One scenario's outcomes, a column for each subject.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !subjects.contains(&outcome.subject.as_str()) {
            subjects.push(&outcome.subject);
        }
    }
    let Some(first) = outcomes.first() else { return String::new() };
    let rounds = outcomes.iter().filter(|outcome| outcome.subject == first.subject).count();
    let mut text = format!("\n{} (medians of {rounds})\n{:<46}", first.scenario, "");
    for subject in &subjects {
        let _ = write!(text, "{subject:>14}");
    }
    let ratios = subjects.len() == 2;
    text += if ratios { "         ratio\n" } else { "\n" };
    let names: BTreeSet<String> = outcomes.iter().flat_map(figures).map(|(name, _)| name).collect();
    for name in names {
        let values: Vec<Option<f64>> =
            subjects.iter().map(|subject| median_of(outcomes, subject, &name)).collect();
        let _ = write!(text, "{name:<46}");
        for value in &values {
            let _ = write!(text, "{:>14}", value.map_or_else(|| "-".to_owned(), short));
        }
        if let (true, [Some(value), Some(floor)]) = (ratios, &values[..])
            && *floor != 0.0
        {
            let _ = write!(text, "{:>14.2}", value / floor);
        }
        text.push('\n');
    }
    let checked: u64 = outcomes.iter().map(|outcome| outcome.verified.deliveries).sum();
    let _ = writeln!(text, "{checked} deliveries checked, none lost, repeated or out of order");
    text
}

fn median_of(outcomes: &[Outcome], subject: &str, name: &str) -> Option<f64> {
    let mut values: Vec<f64> = outcomes
        .iter()
        .filter(|outcome| outcome.subject == subject)
        .flat_map(figures)
        .filter(|(figure, _)| figure == name)
        .map(|(_, value)| value)
        .collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn figures(outcome: &Outcome) -> Vec<(String, f64)> {
    let mut figures: Vec<(String, f64)> =
        outcome.figures.iter().map(|(name, value)| (name.clone(), *value)).collect();
    if let Some(latency) = &outcome.latency_us {
        figures.extend([
            ("latency_p50_us".to_owned(), latency.p50),
            ("latency_p90_us".to_owned(), latency.p90),
            ("latency_p99_us".to_owned(), latency.p99),
            ("latency_p99_9_us".to_owned(), latency.p99_9),
            ("latency_max_us".to_owned(), latency.max),
        ]);
    }
    figures
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
