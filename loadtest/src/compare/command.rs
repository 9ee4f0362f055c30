//! Runs the scenarios against each server in turn, round after round.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use visnyk_loadtest::{Progress, Scenario, raise_open_files};

use super::results::{Results, failed};
use super::server::{Programs, Server};
use super::sizes::Sizes;
use super::table;

/// What to do about the comparison.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Measures, and goes on where it stopped before; then prints the table.
    Run(Run),
    /// Prints the table of what was measured.
    Table {
        /// The results.
        file: PathBuf,
    },
}

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Only these servers; each that is named is measured in the order of the table.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Server>,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Rounds; each is every scenario against every server in turn.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The results, a line of JSON each; what this file has is not measured again.
    #[arg(long, value_name = "FILE", default_value = "target/compare.jsonl")]
    out: PathBuf,
    /// Begins nothing more after this time; the same command then goes on.
    #[arg(long, value_name = "S")]
    stop_after_s: Option<u64>,
    /// The hub; by default the `visnyk` beside this program.
    #[arg(long, value_name = "PATH")]
    visnyk: Option<PathBuf>,
    #[command(flatten)]
    sizes: Sizes,
}

impl Command {
    pub(crate) fn run(self) -> Result<(), String> {
        match self {
            Self::Run(run) => run.run(),
            Self::Table { file } => print_table(&Results::open(&file)?),
        }
    }
}

impl Run {
    fn run(self) -> Result<(), String> {
        let progress = Progress::new();
        progress.note(&format!("open files: {}", raise_open_files()));
        let programs = Programs::new(self.visnyk.clone())?;
        let mut results = open(&self.out)?;
        let servers = self.present(&programs, &mut results, &progress)?;
        let started = Instant::now();
        let until = self.stop_after_s.map(|seconds| started + Duration::from_secs(seconds));
        let sizes = self.sizes.settled();
        let channels = sizes.channel_names();
        let mut left = 0;
        let scenarios = wanted(sizes.scenarios(), &self.scenarios)?;
        for (round, scenario, server) in schedule(self.rounds, &scenarios, &servers) {
            if results.has(&server.name(), scenario, round) {
                continue;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                left += 1;
                continue;
            }
            let name = server.name();
            progress.note(&format!("round {round}, {}, {name}", scenario.name()));
            let found = server
                .start(&programs, scenario, &channels)
                .and_then(|running| visnyk_loadtest::run(scenario, &running.subject, &progress));
            progress.end();
            let mut outcome = found.unwrap_or_else(|failure| {
                progress.note(&format!("FAILED: {}", failure.in_full()));
                failed(scenario, &name, &failure)
            });
            outcome.round = round;
            results.add(outcome)?;
        }
        let printed = print_table(&results);
        if left > 0 {
            progress.note(&format!("{left} measurements are left: run the same again"));
        }
        printed
    }

    /// The servers that are asked for and can be had.
    fn present(
        &self,
        programs: &Programs,
        results: &mut Results,
        progress: &Progress,
    ) -> Result<Vec<Server>, String> {
        let mut present = Vec::new();
        for server in <Server as clap::ValueEnum>::value_variants() {
            if !self.only.is_empty() && !self.only.contains(server) {
                continue;
            }
            match server.install(programs) {
                Ok(()) => present.push(*server),
                Err(why) => {
                    progress.note(&format!("{} is absent: {why}", server.name()));
                    results.add_absent(&server.name(), why)?;
                }
            }
        }
        Ok(present)
    }
}

/// Those scenarios that are asked for by name; all of them if none is.
fn wanted(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>, String> {
    let unknown = names.iter().find(|name| !all.iter().any(|scenario| scenario.name() == **name));
    if let Some(unknown) = unknown {
        let mut known: Vec<_> = all.iter().map(Scenario::name).collect();
        known.dedup();
        return Err(format!("there is no scenario `{unknown}`: {}", known.join(", ")));
    }
    let is_wanted =
        |scenario: &Scenario| names.is_empty() || names.iter().any(|name| *name == scenario.name());
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// Everything that is measured, one after the other: what is compared stands close together.
fn schedule<'a>(
    rounds: u32,
    scenarios: &'a [Scenario],
    servers: &'a [Server],
) -> impl Iterator<Item = (u32, &'a Scenario, Server)> {
    (1..=rounds).flat_map(move |round| {
        scenarios.iter().flat_map(move |scenario| {
            let able = servers.iter().filter(|server| server.can_run(scenario));
            able.map(move |server| (round, scenario, *server))
        })
    })
}

fn open(path: &Path) -> Result<Results, String> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    Results::open(path)
}

/// An error where anything is absent or failed: the table says what.
fn print_table(results: &Results) -> Result<(), String> {
    let table = table::Table::new(results.outcomes())?;
    print!("{table}");
    match table.faults() {
        0 => Ok(()),
        faults => Err(format!("{faults} of the above are absent or failed")),
    }
}
