//! Runs scenarios, several at once: they mostly wait. `tests/faults/run` starts it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bed::Engine;
use crate::fragile::FragileDisk;
use crate::process::program;
use crate::scenario::{self, Report, Scenario};
use crate::support::{fake_time, succeeds};

/// What is run, from the environment that `tests/faults/run` sets.
#[derive(Debug)]
struct Plan {
    scenarios: Vec<Scenario>,
    seed: u64,
    at_once: usize,
    /// Rounds with new seeds begin until then.
    until: Option<Instant>,
}

impl Plan {
    fn of_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| {
            let parse =
                |text: String| text.parse::<f64>().unwrap_or_else(|_| panic!("{name}={text}"));
            variable(name).map(parse)
        };
        let seed = variable("VISNYK_FAULTS_SEED").map_or_else(
            || fastrand::u64(..1 << 32),
            |text| text.parse().expect("VISNYK_FAULTS_SEED is a whole number"),
        );
        let only = variable("VISNYK_FAULTS_ONLY").unwrap_or_default();
        let is_quick = variable("VISNYK_FAULTS_MODE").as_deref() == Some("quick");
        let wanted = |scenario: &Scenario| match only.is_empty() {
            true => !is_quick || scenario.is_quick,
            false => only.split(',').any(|part| scenario.name().contains(part)),
        };
        let mut scenarios = scenario::all();
        scenarios.retain(wanted);
        Self {
            scenarios,
            seed,
            at_once: number("VISNYK_FAULTS_AT_ONCE").map_or(6, |count| count as usize),
            until: number("VISNYK_FAULTS_HOURS")
                .map(|hours| Instant::now() + Duration::from_secs_f64(hours * 3_600.0)),
        }
    }
}

/// What this machine can do.
#[derive(Debug, Clone, Copy)]
struct Probe {
    has_redis: bool,
    has_strace: bool,
    has_nginx: bool,
    has_fake_time: bool,
    has_fuse: bool,
}

impl Probe {
    fn take() -> Self {
        Self {
            has_redis: succeeds("redis-server", &["--version"]),
            has_nginx: succeeds(&program("nginx").to_string_lossy(), &["-v"]),
            has_fake_time: fake_time().is_some(),
            has_fuse: FragileDisk::try_mount(0).is_ok(),
            has_strace: succeeds("strace", &["-D", "-f", "-o", "/dev/null", "true"]),
        }
    }

    /// Why a scenario cannot be run here.
    fn obstacle(self, scenario: &Scenario) -> Option<&'static str> {
        match scenario.engine {
            Engine::Redis if !self.has_redis => Some("redis-server is missing"),
            _ if scenario.mechanism.setup().has_balancer && !self.has_nginx => {
                Some("nginx is missing")
            }
            _ if scenario.mechanism.setup().has_clock_behind && !self.has_fake_time => {
                Some("libfaketime is missing")
            }
            _ if !scenario.mechanism.versions().iter().all(|it| it.program().is_some()) => {
                Some("other versions are not built (tests/faults/versions)")
            }
            _ if scenario.mechanism.setup().has_fragile_disk && !self.has_fuse => {
                Some("FUSE does not work")
            }
            _ if scenario.needs_strace() && !self.has_strace => Some("strace does not work"),
            _ => None,
        }
    }
}

/// Runs what the environment asks for, prints a line each, and fails if one has violations.
#[test]
#[ignore = "tests/faults/run starts it"]
fn faults() {
    let plan = Plan::of_environment();
    assert!(!plan.scenarios.is_empty(), "no scenario has such a name");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut failed = Vec::new();
    let mut seed = plan.seed;
    loop {
        failed.extend(runtime.block_on(round(&plan, seed)));
        if plan.until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
        seed += 1;
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Runs each scenario once; what failed, and how to repeat it.
async fn round(plan: &Plan, seed: u64) -> Vec<String> {
    let (began, probe) = (Instant::now(), Probe::take());
    println!("VISNYK_FAULTS_SEED={seed}, {} scenarios, {probe:?}", plan.scenarios.len());
    let permits = Arc::new(Semaphore::new(plan.at_once));
    let mut running = JoinSet::new();
    let mut skipped = 0;
    for scenario in plan.scenarios.iter().copied() {
        if let Some(obstacle) = probe.obstacle(&scenario) {
            println!("SKIPPED: {}: {obstacle}", scenario.name());
            skipped += 1;
            continue;
        }
        let permits = Arc::clone(&permits);
        running.spawn(async move {
            let _permit = permits.acquire_owned().await.expect("it is open");
            (scenario, run(scenario, seed).await)
        });
    }
    let (mut passed, mut known, mut failed) = (0, 0, Vec::new());
    while let Some(ended) = running.join_next().await {
        let (scenario, result) = ended.expect("a scenario is run by a task of its own");
        let name = scenario.name();
        let (violations, summary) = match result {
            Ok(report) if report.violations.is_empty() => {
                passed += 1;
                println!("ok      {name}: {}", report.summary);
                if let Some(fault) = scenario.known_fault() {
                    println!("        although it is known to fail: {fault}");
                }
                continue;
            }
            Ok(mut report) => {
                let count = report.violations.len();
                report.violations.truncate(VIOLATIONS_SHOWN);
                let history = report.history.unwrap_or_default();
                report.violations.push(format!("{count} violations, {}", history.display()));
                (report.violations, report.summary)
            }
            Err(why) => (Vec::new(), why),
        };
        // A panic of the harness is never the known one.
        let is_judged = !violations.is_empty();
        match scenario.known_fault().filter(|_| is_judged) {
            Some(fault) => {
                known += 1;
                println!("known   {name}: {fault}: {summary}");
            }
            None => {
                println!("FAILED  {name}: {summary}");
                failed.push(format!("VISNYK_FAULTS_SEED={seed} tests/faults/run {name}"));
            }
        }
        for violation in violations {
            let shown: String = violation.chars().take(VIOLATION_CHARS_SHOWN).collect();
            println!("        {shown}");
        }
    }
    let (failures, took) = (failed.len(), began.elapsed().as_secs());
    println!(
        "faults: {passed} passed, {failures} failed, {known} failed as is known, {skipped} skipped, \
         {took} s"
    );
    failed
}

/// Runs one in a task of its own, so that a panic ends this one alone.
async fn run(scenario: Scenario, seed: u64) -> Result<Report, String> {
    let histories = std::env::var_os("VISNYK_FAULTS_HISTORIES")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults"), PathBuf::from);
    let recorder = scenario.recorder(seed);
    let (noted, kept_in) = (recorder.clone(), histories.clone());
    let running = async move { scenario.run(seed, recorder, &kept_in).await };
    let why = match ended(running, SCENARIO_MAX).await {
        Ok(report) => return Ok(report),
        Err(why) => why,
    };
    // What there is so far says how it came to that.
    let path = scenario.keep(seed, &noted, &why, &histories);
    Err(format!("{why}; {}", path.display()))
}

/// Runs something in a task of its own; why it has not ended well, if it has not.
async fn ended<T: Send + 'static>(
    running: impl Future<Output = T> + Send + 'static,
    time_max: Duration,
) -> Result<T, String> {
    let mut task = tokio::spawn(running);
    match timeout(time_max, &mut task).await {
        Ok(ended) => ended.map_err(|error| {
            let payload = error.into_panic();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("it panics").to_owned()
        }),
        Err(_) => {
            task.abort();
            Err(format!("it does not end in {time_max:?}"))
        }
    }
}

#[tokio::test]
async fn a_scenario_that_panics_or_hangs_keeps_its_history() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = scenario::all()[0];
    let recorder = scenario.recorder(7);
    let noted = recorder.clone();
    let panics = async move {
        noted.note(crate::record::Record::Fault { what: "before".to_owned() });
        assert!(noted.lines().is_empty(), "it strikes");
    };
    let why = ended(panics, SCENARIO_MAX).await.unwrap_err();
    assert!(why.contains("it strikes"), "{why}");
    let path = scenario.keep(7, &recorder, &why, directory.path());
    assert_eq!(crate::record::read(&path).unwrap(), recorder.lines());
    assert_eq!(recorder.lines().len(), 2, "all that was noted");
    let hangs = ended(std::future::pending::<()>(), Duration::from_millis(1)).await;
    assert!(hangs.unwrap_err().contains("does not end"));
}

/// Judges a history once more: `VISNYK_FAULTS_HISTORY` is its file.
#[test]
#[ignore = "for a history that was kept"]
fn history() {
    let path = std::env::var_os("VISNYK_FAULTS_HISTORY").expect("VISNYK_FAULTS_HISTORY");
    let lines = crate::record::read(&PathBuf::from(path)).expect("a history");
    let violations = crate::checker::violations(&lines);
    assert!(violations.is_empty(), "{violations:#?}");
}

const VIOLATIONS_SHOWN: usize = 5;
const VIOLATION_CHARS_SHOWN: usize = 200;
const SCENARIO_MAX: Duration = Duration::from_secs(180);
