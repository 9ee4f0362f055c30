//! Every scenario at a small size against a real hub, and faults that must fail a run.

mod faulty_server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use visnyk_loadtest::HubCommand;
use visnyk_loadtest::Outcome;

use faulty_server::{Fault, FaultyServer};

const SCENARIOS: usize = 17;

#[test]
fn every_scenario_runs_against_the_hub() {
    let results = tempfile::tempdir().expect("a temporary folder");
    let file = results.path().join("results.jsonl");
    let output = loadtest(&["all", "--quick", "--visnyk", hub(), "--out", text(&file)]);
    assert!(output.status.success(), "{}", said(&output));
    let outcomes = read(&file);
    let mut names: Vec<&str> = outcomes.iter().map(|outcome| outcome.scenario.as_str()).collect();
    names.dedup();
    assert_eq!(names.len(), SCENARIOS, "{names:?}");
    for outcome in &outcomes {
        let name = &outcome.scenario;
        assert!(outcome.verified.is_clean(), "{name}: {:?}", outcome.verified);
        assert!(outcome.verified.deliveries > 0 || name == "idle", "{name} checked nothing");
        assert!(!outcome.figures.is_empty() && !outcome.parameters.is_empty(), "{name}");
        assert!(outcome.figures.values().all(|value| value.is_finite()), "{name}");
        assert!(outcome.machine.cores > 0 && outcome.machine.nofile > 0, "{name}");
    }
}

#[test]
fn hub_and_floor_are_measured_in_turn() {
    let results = tempfile::tempdir().expect("a temporary folder");
    let file = results.path().join("results.jsonl");
    let arguments = [
        "run",
        "paced",
        "--subscribers",
        "20",
        "--events",
        "5",
        "--rate",
        "50",
        "--interleave",
        "floor",
        "--rounds",
        "2",
        "--visnyk",
        hub(),
        "--out",
        text(&file),
    ];
    let output = loadtest(&arguments);
    assert!(output.status.success(), "{}", said(&output));
    let order: Vec<(u32, String)> =
        read(&file).into_iter().map(|outcome| (outcome.round, outcome.subject)).collect();
    let expected = [(1, "visnyk"), (1, "floor"), (2, "visnyk"), (2, "floor")];
    assert_eq!(order, expected.map(|(round, subject)| (round, subject.to_owned())));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("ratio") && table.contains("server_cpu_us_per_delivery"), "{table}");
}

#[test]
fn polls_of_hub_and_floor_are_measured_in_turn() {
    let sizes = ["--waiting", "20", "--answered", "2", "--cycles", "3"];
    let rounds = ["run", "poll", "--interleave", "floor", "--visnyk", hub()];
    let output = loadtest(&[&rounds[..], &sizes].concat());
    assert!(output.status.success(), "{}", said(&output));
    // 20 polls for each of five events, of either.
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("all_answered_ms") && table.contains("200 deliveries"), "{table}");
}

#[test]
fn sound_server_passes() {
    let output = against(Fault::None, "paced");
    assert!(output.status.success(), "{}", said(&output));
}

/// What was published before the last events, and is still on its way, does not stand for them.
#[test]
fn late_events_are_waited_for() {
    let server = FaultyServer::start(Fault::Late, EVENTS);
    let (url, pid) = (server.url(), std::process::id().to_string());
    let churn = ["churn", "--subscribers", "3", "--per-s", "0", "--rate", "5", "--duration-s", "2"];
    let output = loadtest(&[&["run"], &churn[..], &["--against", &url, "--pid", &pid]].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("36 deliveries"), "{}", said(&output));
}

#[test]
fn lost_event_fails_the_run() {
    for scenario in ["paced", "burst"] {
        assert_fault(&against(Fault::Lose, scenario), "lost: 1");
    }
}

#[test]
fn event_lost_at_the_end_fails_the_run() {
    let output = against(Fault::LoseLast, "paced");
    assert_fault(&output, "lost: 1");
    assert!(said(&output).contains("never came"), "{}", said(&output));
}

#[test]
fn repeated_event_fails_the_run() {
    assert_fault(&against(Fault::Repeat, "paced"), "repeated: 1");
}

#[test]
fn event_repeated_at_the_end_fails_the_run() {
    assert_fault(&against(Fault::RepeatLast, "burst"), "repeated: 1");
}

#[test]
fn reordered_events_fail_the_run() {
    assert_fault(&against(Fault::Reorder, "paced"), "reordered: 1");
}

#[test]
fn changed_byte_fails_the_run() {
    assert_fault(&against(Fault::Change, "paced"), "corrupt: 1");
}

#[test]
fn gap_that_need_not_be_fails_the_run() {
    assert_fault(&against(Fault::Gap, "paced"), "gaps: 1");
}

/// A subscriber that connects while events flow gets all that is published once it has its response
/// head.
#[test]
fn first_event_lost_by_those_that_come_fails_the_run() {
    let output = churned(Fault::LoseFirst);
    assert_fault(&output, "lost: ");
    let output = churned(Fault::None);
    assert!(output.status.success(), "{}", said(&output));
}

/// Everyone comes back at once to a hub that was killed, and has missed events of before that.
#[test]
fn all_resume_at_a_hub_that_was_killed() {
    let storm = ["run", "reconnect-storm", "--restart", "--subscribers", "300"];
    let output = loadtest(&[&storm[..], &["--visnyk", hub()]].concat());
    assert!(output.status.success(), "{}", said(&output));
    // Three before, 20 missed, one live.
    assert!(said(&output).contains("7200 deliveries checked, none lost"), "{}", said(&output));
    assert!(said(&output).contains("restart_ms"), "{}", said(&output));
}

/// What is weighed is there: a hub that ends them is not praised for what it saved.
#[test]
fn slow_readers_that_are_ended_fail_the_run() {
    let command = HubCommand::new(hub()).settings(&[("limits.connections.write_stall_s", "1")]);
    let hub = command.start_blocking().expect("it starts");
    let (url, pid) = (format!("http://{}", hub.address()), hub.pid().to_string());
    let sizes = ["--fast", "5", "--slow", "5", "--events", "200", "--rate", "50"];
    let slow = [&["run", "slow-readers"], &sizes[..]].concat();
    let output = loadtest(&[&slow[..], &["--against", &url, "--pid", &pid]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("of 10 streams the server has 5"), "{}", said(&output));
    let output = loadtest(&[&slow[..], &["--visnyk", self::hub()]].concat());
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn load_goes_to_loopback_only() {
    let output = loadtest(&["run", "idle", "--against", "http://192.0.2.1:80", "--pid", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("loopback only"), "{}", said(&output));
}

/// Ten events to three subscribers of a server with a fault in what the second one gets.
fn against(fault: Fault, scenario: &str) -> Output {
    let server = FaultyServer::start(fault, EVENTS);
    let (url, pid) = (server.url(), std::process::id().to_string());
    let events = EVENTS.to_string();
    loadtest(&[
        "run",
        scenario,
        "--subscribers",
        "3",
        "--events",
        &events,
        "--against",
        &url,
        "--pid",
        &pid,
    ])
}

/// Three subscribers of whom four a second are replaced, while five events a second flow.
fn churned(fault: Fault) -> Output {
    let server = FaultyServer::start(fault, EVENTS);
    let (url, pid) = (server.url(), std::process::id().to_string());
    let churn = ["churn", "--subscribers", "3", "--per-s", "4", "--rate", "5", "--duration-s", "3"];
    loadtest(&[&["run"], &churn[..], &["--against", &url, "--pid", &pid]].concat())
}

fn assert_fault(output: &Output, fault: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    let said = said(output);
    assert!(said.contains("FAILED") && said.contains(fault), "{said}");
    assert!(said.contains("connection "), "it does not say which: {said}");
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visnyk-loadtest"))
        .args(arguments)
        .output()
        .expect("it was built for this test")
}

/// The hub beside the load tool, where a build of the workspace puts it.
fn hub() -> &'static str {
    let path = Path::new(env!("CARGO_BIN_EXE_visnyk-loadtest")).with_file_name("visnyk");
    assert!(path.exists(), "{} is missing: `cargo build` first", path.display());
    text(Box::leak(path.into_boxed_path()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

fn read(file: &PathBuf) -> Vec<Outcome> {
    let text = std::fs::read_to_string(file).expect("results were written");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is an outcome")).collect()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

const EVENTS: usize = 10;
