//! docs/metrics.md, the dashboard and the alerts against the metrics that a hub has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use visnyk::telemetry::Metrics;

/// One metric, as the exposition shows it.
#[derive(Debug, Default)]
struct Shown {
    kind: String,
    help: String,
    /// By label: its values.
    labels: BTreeMap<String, BTreeSet<String>>,
    /// The names of its samples.
    samples: BTreeSet<String>,
}

/// All metrics of a hub that has just started, by the names that the text format has for them.
fn metrics() -> BTreeMap<String, Shown> {
    let mut found: BTreeMap<String, Shown> = BTreeMap::new();
    let (mut name, mut help) = (String::new(), String::new());
    for line in Metrics::new().render().lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            let (_, text) = described.split_once(' ').expect("a name and a help");
            help = text.trim_end_matches('.').to_owned();
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (of, kind) = typed.split_once(' ').expect("a name and a type");
            name = if kind == "counter" { format!("{of}_total") } else { of.to_owned() };
            let shown = Shown { kind: kind.to_owned(), help: help.clone(), ..Shown::default() };
            assert!(found.insert(name.clone(), shown).is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            let shown = found.get_mut(&name).expect("samples come behind their type");
            let (sample, _) = line.rsplit_once(' ').expect("a value");
            let (sample, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            shown.samples.insert(sample.to_owned());
            for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once('=').expect("a value");
                let values = shown.labels.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    found
}

#[test]
fn every_metric_is_listed_with_its_type_labels_and_help() {
    let expected: Vec<String> = metrics()
        .iter()
        .filter(|(name, _)| !name.starts_with("visnyk_heap_"))
        .map(|(name, Shown { kind, help, labels, .. })| {
            assert!(!help.is_empty(), "{name} has no help");
            let labels: Vec<String> = labels
                .iter()
                .filter(|(label, _)| *label != "le")
                .map(|(label, values)| match name.as_str() {
                    // They change with the build.
                    "visnyk_build_info" => format!("`{label}`"),
                    _ => {
                        let values: Vec<&str> = values.iter().map(String::as_str).collect();
                        format!("`{label}`: {}", values.join(", "))
                    }
                })
                .collect();
            format!("| `{name}` | {kind} | {} | {help} |", labels.join("; "))
        })
        .collect();
    let page = include_str!("../../docs/metrics.md");
    let listed: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `visnyk_") || line.starts_with("| `process_"))
        .collect();
    assert!(listed == expected, "docs/metrics.md is to have\n{}", expected.join("\n"));
}

#[test]
fn no_label_has_a_value_that_clients_could_choose() {
    for (name, shown) in metrics() {
        let sets: usize = shown.labels.values().map(BTreeSet::len).product();
        let bound = if shown.labels.contains_key("le") { 20 } else { 60 };
        assert!(sets <= bound, "{name} has {sets} sets of labels");
    }
}

/// The names of metrics in a query that a hub or Prometheus is to have.
fn names_in(query: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    query
        .split(move |c| !is_part(c))
        .filter(|word| word.starts_with("visnyk_") || word.starts_with("process_"))
}

fn assert_names_are_there(queries: &[String]) {
    let samples: BTreeSet<String> =
        metrics().into_values().flat_map(|shown| shown.samples).collect();
    let mut named = 0;
    for query in queries {
        for name in names_in(query) {
            assert!(samples.contains(name), "{name} in {query}");
            named += 1;
        }
    }
    assert!(named >= queries.len(), "{named} names in {} queries", queries.len());
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_query_of_the_dashboard_asks_for_metrics_that_are_there() {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str().filter(|_| name == "expr" || name == "query") {
                        Some("prometheus") | None => collect(member, queries),
                        Some(query) => queries.push(query.to_owned()),
                    }
                }
            }
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&file("dist/grafana/visnyk.json")).expect("JSON");
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    assert!(queries.len() > 40, "{}", queries.len());
    let of_hubs: Vec<String> =
        queries.into_iter().filter(|query| !query.starts_with("sum(up{")).collect();
    assert_names_are_there(&of_hubs);
}

#[test]
fn every_alert_asks_for_metrics_that_are_there_and_has_a_test_and_a_row() {
    let rules = file("dist/prometheus/alerts.yml");
    let rule_tests = file("dist/prometheus/alerts_test.yml");
    let page = file("docs/metrics.md");
    let mut lines = rules.lines();
    let (mut alerts, mut queries) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next() {
        if let Some(alert) = line.trim_start().strip_prefix("- alert: ") {
            alerts.push(alert);
            assert_eq!(lines.next().map(str::trim), Some("expr: >-"), "{alert}");
            queries.push(lines.next().expect("a query").trim().to_owned());
        }
    }
    assert!(alerts.len() > 15, "{alerts:?}");
    let of_hubs: Vec<String> =
        queries.into_iter().filter(|query| !query.starts_with("up{")).collect();
    assert_names_are_there(&of_hubs);
    for alert in &alerts {
        let is_fired = rule_tests.contains(&format!("  - name: {alert}\n"));
        let is_silent =
            rule_tests.contains(&format!("alertname: {alert}\n        exp_alerts: []\n"));
        assert!(is_fired && is_silent, "{alert} has no test");
    }
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| Visnyk")?.split(" | ").next())
        .collect();
    let expected: Vec<&str> =
        alerts.iter().map(|alert| alert.strip_prefix("Visnyk").expect("their prefix")).collect();
    assert_eq!(rows, expected, "docs/metrics.md");
}

#[test]
fn every_test_that_the_table_of_alerts_names_exists() {
    let page = file("docs/metrics.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = page.lines().filter(|line| line.starts_with("| Visnyk"));
    for name in rows.flat_map(|row| row.split('`').skip(1).step_by(2)) {
        let Some((file, test)) = name.split_once("::") else { continue };
        let groups = [
            "guarantees",
            "guarantees/disk",
            "guarantees/shared",
            "protocol",
            "protocol/auth",
            "protocol/tls",
        ];
        let mut texts = groups.iter().filter_map(|group| {
            fs::read_to_string(root.join(format!("tests/{group}/{file}.rs"))).ok()
        });
        assert!(texts.any(|text| text.contains(&format!("fn {test}("))), "`{name}`");
    }
}
