//! Several measurements in one sitting: a fresh server for each, in turn.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use visnyk_loadtest::outcome::Build;
use visnyk_loadtest::server_process::ServerProcess;
use visnyk_loadtest::{
    Failure, HubCommand, Memory, Outcome, Progress, RestartableHub, Scenario, SlowFsync, Subject,
    raise_open_files,
};

use crate::compare::Scratch;
use crate::options::{Options, Other};
use crate::summary;

/// How to run scenarios, and what against.
pub(crate) struct Rounds {
    options: Options,
    address: Option<SocketAddr>,
    progress: Progress,
}

impl Rounds {
    pub(crate) fn new(options: Options) -> Result<Self, String> {
        let progress = Progress::new();
        progress.note(&format!("open files: {}", raise_open_files()));
        Ok(Self { address: options.address()?, options, progress })
    }

    /// Runs a scenario against each subject in each round; prints a table and writes the results.
    pub(crate) fn run(&self, scenario: &Scenario) -> Result<(), String> {
        let mut outcomes = Vec::new();
        for round in 1..=self.options.rounds.max(1) {
            outcomes.extend(self.measure(scenario, round, None)?);
            if let Some(other) = self.options.interleave {
                outcomes.extend(self.measure(scenario, round, Some(other))?);
            }
        }
        print!("{}", summary::table(&outcomes));
        Ok(())
    }

    /// `None` if the other one cannot run this scenario.
    fn measure(
        &self,
        scenario: &Scenario,
        round: u32,
        other: Option<Other>,
    ) -> Result<Option<Outcome>, String> {
        let name = match other {
            None => "visnyk",
            Some(Other::Floor) => "floor",
            Some(Other::Memory) if scenario.wants_disk() => "memory",
            Some(Other::Memory) => return Err(format!("{} is in memory", scenario.name())),
        };
        self.progress.note(&format!("{}, {name}, round {round}", scenario.name()));
        let failed = |failure: Failure| {
            self.progress.end();
            format!("{} against {name} FAILED: {}", scenario.name(), failure.in_full())
        };
        let (subject, server) = self.subject(scenario, other).map_err(failed)?;
        // Before it, since its process may be another one then.
        let build = subject.pids.first().map(|pid| Build::of(*pid, server.is_some()));
        let mut outcome = match visnyk_loadtest::run(scenario, &subject, &self.progress) {
            Err(Failure::Unsupported(what)) if other.is_some() => {
                self.progress.note(&format!("  left out: {what}"));
                return Ok(None);
            }
            result => result.map_err(failed)?,
        };
        outcome.round = round;
        outcome.build = build.unwrap_or_default();
        if let Some(path) = &self.options.out {
            write(&outcome, path)?;
        }
        Ok(Some(outcome))
    }

    /// The subject, and its process where it was started for this.
    fn subject(
        &self,
        scenario: &Scenario,
        other: Option<Other>,
    ) -> Result<(Subject, Option<Started>), Failure> {
        if other == Some(Other::Floor) {
            let server = ServerProcess::floor(&this_program()?)?;
            let subject = server.as_floor();
            let server = Server::Floor { _process: server };
            return Ok((
                subject,
                Some(Started { _server: server, _directory: None, _slow_fsync: None }),
            ));
        }
        let in_memory = other == Some(Other::Memory);
        if let Some(address) = self.address.filter(|_| !in_memory) {
            let mut subject = Subject::visnyk(address, 0);
            subject.pids.clone_from(&self.options.pid);
            for (name, value) in scenario.settings() {
                self.progress.note(&format!("  it is taken to have {name}={value}"));
            }
            return Ok((subject, None));
        }
        let program = match &self.options.visnyk {
            Some(path) => path.clone(),
            None => this_program()?.with_file_name("visnyk"),
        };
        let mut command = HubCommand::new(program).args(&self.options.visnyk_arg);
        for (name, value) in scenario.settings() {
            command = command.env(name, value);
        }
        let on_disk = scenario.wants_disk() && !in_memory;
        let directory = on_disk.then(Scratch::new).transpose()?;
        if let Some(directory) = &directory {
            command = command.arg("--data-dir").arg(directory.path());
        }
        let delay_ms = Some(scenario.fsync_delay_ms()).filter(|ms| on_disk && *ms > 0);
        let slow_fsync = delay_ms.map(SlowFsync::new).transpose()?;
        for (name, value) in slow_fsync.iter().flat_map(SlowFsync::env) {
            command = command.env(name, value);
        }
        let server = RestartableHub::start(command)?;
        let mut subject = server.as_subject();
        if in_memory {
            subject.name = "memory".into();
        }
        let server = Server::Hub { _hub: server };
        Ok((
            subject,
            Some(Started { _server: server, _directory: directory, _slow_fsync: slow_fsync }),
        ))
    }
}

/// A server that was started for one measurement. It ends before its directory goes.
struct Started {
    _server: Server,
    _directory: Option<Scratch>,
    _slow_fsync: Option<SlowFsync>,
}

enum Server {
    Floor { _process: ServerProcess },
    Hub { _hub: RestartableHub },
}

/// Runs the scenario in memory; prints a table and writes the result.
pub(crate) fn run_memory(plan: &Memory, out: Option<&Path>) -> Result<(), String> {
    let progress = Progress::new();
    let outcome = plan.run(&progress).map_err(|failure| {
        progress.end();
        format!("memory FAILED: {}", failure.in_full())
    })?;
    print!("{}", summary::table(std::slice::from_ref(&outcome)));
    out.map_or(Ok(()), |path| write(&outcome, path))
}

fn write(outcome: &Outcome, path: &Path) -> Result<(), String> {
    let line = serde_json::to_string(outcome).map_err(|error| error.to_string())?;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{line}"))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(Failure::io("finding this program"))
}
