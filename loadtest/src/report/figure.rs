//! What a figure is called, and its unit.
//!
//! Results name figures with the unit last (`cpu_per_delivery_us`), so a figure that this module
//! has never heard of still gets a label and a unit.

use std::collections::BTreeMap;

use super::text::{capitalised, words};
use crate::outcome::Outcome;

/// All figures of a run: those it names, and its latencies as `latency_p50_ms` and so on.
pub(crate) fn figures(outcome: &Outcome) -> BTreeMap<String, f64> {
    let mut figures = outcome.figures.clone();
    if let Some(latency) = outcome.latency_us.filter(|latency| latency.count > 0) {
        for (name, us) in [
            ("latency_p50_ms", latency.p50),
            ("latency_p90_ms", latency.p90),
            ("latency_p99_ms", latency.p99),
            ("latency_p99_9_ms", latency.p99_9),
            ("latency_max_ms", latency.max),
        ] {
            figures.insert(name.to_owned(), us / 1_000.0);
        }
    }
    figures
}

/// A figure's name as a label with its unit: "Server CPU per delivery, µs".
pub(crate) fn label(name: &str) -> String {
    if let Some((_, label)) = KNOWN.iter().find(|(known, _)| *known == name) {
        return (*label).to_owned();
    }
    let parts: Vec<&str> = name.split('_').collect();
    if let Some((rest, after)) = name.split_once("_per_s")
        && (after.is_empty() || after.starts_with('_'))
        && !rest.split('_').any(|part| sign(part).is_some())
    {
        let after = if after.is_empty() { String::new() } else { format!(" {}", words(after)) };
        return format!("{} per second{after}", capitalised(&words(rest)));
    }
    let at = parts.iter().position(|part| sign(part).is_some());
    let Some((at, unit)) = at.and_then(|at| Some((at, sign(parts[at])?))) else {
        return capitalised(&words(name));
    };
    let (before, after) = (parts[..at].join("_"), parts[at + 1..].join("_"));
    match &*after {
        "per_s" => format!("{}, {unit} per second", capitalised(&words(&before))),
        after => format!("{}, {unit}", capitalised(&words(&format!("{before}_{after}")))),
    }
}

/// Whether a figure is beside the point of most runs: what the clients spend, what is given by the
/// sizes of the run, steps between two others.
pub(crate) fn is_minor(name: &str) -> bool {
    const BEGINNINGS: [&str; 5] =
        ["client_", "publisher_", "publish_answer", "server_threads", "connections"];
    const NAMES: [&str; 7] = [
        "deliveries",
        "elapsed_s",
        "latency_p90_ms",
        "publish_elapsed_s",
        "received_bytes_per_delivery",
        "server_anonymous_bytes_per_connection",
        "server_resident_bytes",
    ];
    BEGINNINGS.iter().any(|start| name.starts_with(start)) || NAMES.contains(&name)
}

/// A unit in signs or words, from its name in results.
pub(crate) fn unit(name: &str) -> String {
    match name {
        "1/s" => "per second".into(),
        "s" => "seconds".into(),
        name => sign(name).map_or_else(|| words(name), str::to_owned),
    }
}

fn sign(part: &str) -> Option<&'static str> {
    UNITS.iter().find(|(unit, _)| *unit == part).map(|(_, sign)| *sign)
}

/// Parts of names that are units.
const UNITS: [(&str, &str); 8] = [
    ("us", "µs"),
    ("ms", "ms"),
    ("ns", "ns"),
    ("kib", "KiB"),
    ("mib", "MiB"),
    ("bytes", "bytes"),
    ("percent", "%"),
    ("s", "s"),
];

/// Labels that the rule would not find.
const KNOWN: [(&str, &str); 5] = [
    ("latency_p99_9_ms", "Latency p99.9, ms"),
    ("latency_max_ms", "Latency, longest, ms"),
    ("server_resident_bytes_per_connection", "Server memory per connection, bytes"),
    ("kernel_slab_bytes_per_connection_both_ends", "Kernel slab per connection, both ends, bytes"),
    (
        "kernel_tcp_bytes_per_connection_both_ends",
        "Kernel TCP buffers per connection, both ends, bytes",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::LatencyUs;

    #[test]
    fn unknown_figure_has_a_label_and_a_unit() {
        for (name, expected) in [
            ("server_cpu_us_per_delivery", "Server CPU per delivery, µs"),
            ("connects_per_s", "Connects per second"),
            ("events_per_s_1_publisher", "Events per second 1 publisher"),
            ("events_per_subscriber", "Events per subscriber"),
            ("server_idle_cpu_ms_per_s", "Server idle CPU, ms per second"),
            ("server_resident_bytes", "Server resident, bytes"),
            ("elapsed_s", "Elapsed, s"),
            ("latency_p50_ms", "Latency p50, ms"),
            ("latency_p99_9_ms", "Latency p99.9, ms"),
            ("publish_answer_p99_us", "Publish answer p99, µs"),
            ("connections", "Connections"),
            ("", ""),
        ] {
            assert_eq!(label(name), expected);
        }
    }

    #[test]
    fn latencies_are_figures_in_ms() {
        let latency = LatencyUs { p99: 1_500.0, count: 10, ..LatencyUs::default() };
        let mut outcome = Outcome { latency_us: Some(latency), ..Outcome::default() };
        assert_eq!(figures(&outcome).get("latency_p99_ms"), Some(&1.5));
        outcome.latency_us = Some(LatencyUs::default());
        assert!(figures(&outcome).is_empty(), "nothing was timed");
    }
}
