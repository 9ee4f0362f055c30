//! Invented results for tests of the report.

use crate::outcome::{Build, LatencyUs, Machine, Outcome, Series, Verified};

/// A name that would be markup, a cell of a table and a path.
pub(crate) const HOSTILE: &str = "<img src=x onerror=alert(1)>|../../\"'&";

/// Two rounds of `paced` at two sizes, of `burst` and of `idle`, against the hub, the floor and
/// something with a hostile name.
pub(crate) fn outcomes() -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for round in 1..=2 {
        for (subject, factor) in [("visnyk", 1.1), ("floor", 1.0), (HOSTILE, 2.0)] {
            for subscribers in [1_000, 10_000] {
                outcomes.push(broadcast("paced", subject, round, subscribers, 4.0 * factor));
            }
            outcomes.push(broadcast("burst", subject, round, 10_000, 0.3 * factor));
            outcomes.push(idle(subject, round, 700.0 * factor));
        }
        let mut storm = run("reconnect_storm", "visnyk", round);
        storm.figures = [("server_cpu_us_per_resume".to_owned(), 80.0)].into();
        outcomes.push(storm);
    }
    outcomes
}

fn run(scenario: &str, subject: &str, round: u32) -> Outcome {
    let is_hub = subject == "visnyk" && scenario != "reconnect_storm";
    let build = Build { version: "visnyk 1.2.3".into(), sha256: "0123456789ab".into() };
    Outcome {
        build: if is_hub { build } else { Build::default() },
        scenario: scenario.into(),
        subject: subject.into(),
        round,
        started_at: format!("2026-01-01T10:0{round}:00Z"),
        machine: Machine {
            cores: 2,
            kernel: "6.1.0".into(),
            memory_bytes: 1 << 34,
            nofile: 20_000,
        },
        ..Outcome::default()
    }
}

fn broadcast(scenario: &str, subject: &str, round: u32, subscribers: u64, cpu_us: f64) -> Outcome {
    let mut outcome = run(scenario, subject, round);
    outcome.parameters = [
        ("subscribers".to_owned(), subscribers.into()),
        ("payload".to_owned(), 128.into()),
        ("rate".to_owned(), 5.0.into()),
        ("events".to_owned(), 200.into()),
        ("mode".to_owned(), "pipelined".into()),
        ("publishers".to_owned(), 16.into()),
    ]
    .into();
    outcome.figures = [
        ("server_cpu_us_per_delivery".to_owned(), cpu_us),
        ("client_cpu_us_per_delivery".to_owned(), 1.0),
        ("received_bytes_per_delivery".to_owned(), 168.0),
    ]
    .into();
    outcome.latency_us = Some(LatencyUs {
        p50: 1_000.0,
        p90: 2_000.0,
        p99: 3_000.0 * cpu_us,
        p99_9: 40_000.0,
        max: 50_000.0,
        count: 1_000,
    });
    outcome.percentiles = vec![(0.0, 500.0), (50.0, 1_000.0), (99.0, 3_000.0), (100.0, 50_000.0)];
    outcome.series = vec![Series {
        name: "deliveries a second".into(),
        x_unit: "s".into(),
        y_unit: "1/s".into(),
        points: vec![(0.0, 900.0), (1.0, 1_000.0)],
    }];
    outcome.verified = Verified { events: 10, deliveries: 10 * subscribers, ..Verified::default() };
    outcome
}

fn idle(subject: &str, round: u32, bytes: f64) -> Outcome {
    let mut outcome = run("idle", subject, round);
    outcome.parameters = [("connections".to_owned(), vec![1_000, 10_000, 18_000].into())].into();
    outcome.figures = [
        ("connects_per_s", 40_000.0),
        ("server_resident_bytes_per_connection", bytes),
        ("kernel_slab_bytes_per_connection_both_ends", 9_800.0),
        ("server_cpu_us_per_connect", 20.0),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    outcome
}
