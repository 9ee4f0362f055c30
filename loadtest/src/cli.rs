//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use visnyk_loadtest::report::ReportCommand;
use visnyk_loadtest::{Memory, Scenario, in_full};

use crate::compare;
use crate::floor;
use crate::options::Options;
use crate::rounds::{self, Rounds};

/// Puts load on a hub, checks every delivery, and says what it cost.
///
/// Exit code 1 if a delivery was lost, repeated, out of order or changed.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one scenario.
    Run {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// Runs all scenarios, one after the other.
    All {
        #[command(flatten)]
        options: Options,
        /// Small sizes: seconds instead of minutes.
        #[arg(long)]
        quick: bool,
    },
    /// Measures the hub beside other servers from public registries.
    #[command(subcommand)]
    Compare(compare::Command),
    /// Runs the hub in this process with connections in memory, up to a million: no sockets, no
    /// HTTP, everything else.
    Memory {
        #[command(flatten)]
        plan: Memory,
        /// Appends a line of JSON to this file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Holds receivers for another process, which says what on stdin.
    #[command(hide = true)]
    Receive,
    /// Measures what an fsync takes in the directory for temporary files.
    #[command(hide = true)]
    Fsync,
    /// Serves as a plain send loop on 127.0.0.1: the least that any server must spend.
    Floor {
        /// 0 is any that is free.
        port: u16,
    },
    /// Turns results into pictures and the blocks of a page of documentation.
    Report(ReportCommand),
}

impl Cli {
    pub(crate) fn run(self) -> Result<(), String> {
        match self.command {
            Command::Floor { port } => floor::serve(port).map_err(|error| error.to_string()),
            Command::Compare(command) => command.run(),
            Command::Memory { plan, out } => rounds::run_memory(&plan, out.as_deref()),
            Command::Receive => {
                visnyk_loadtest::receive_apart().map_err(|failure| failure.in_full())
            }
            Command::Fsync => visnyk_loadtest::measure_fsync().map_err(|failure| failure.in_full()),
            Command::Report(report) => report.run().map_err(|error| in_full(&error)),
            Command::Run { options, scenario } => Rounds::new(options)?.run(&scenario),
            Command::All { options, quick } => {
                let rounds = Rounds::new(options)?;
                let mut failed = Vec::new();
                for (words, small) in ALL {
                    let small =
                        if quick { small.split_whitespace() } else { "".split_whitespace() };
                    let scenario = Scenario::from_words(words.split_whitespace().chain(small));
                    if let Err(why) = rounds.run(&scenario) {
                        eprintln!("{why}");
                        failed.push(why);
                    }
                }
                if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
            }
        }
    }
}

/// Each scenario, and the sizes that `--quick` gives it.
const ALL: &[(&str, &str)] = &[
    ("idle", "--connections 100,1000 --settle-s 1"),
    ("paced", "--subscribers 1000 --events 20 --rate 20"),
    ("burst", "--subscribers 1000 --events 100"),
    ("burst --mode waiting", "--subscribers 1000 --events 50"),
    ("burst --mode connections", "--subscribers 1000 --events 50"),
    ("burst --mode batch", "--subscribers 1000 --events 100"),
    ("many-channels", "--channels 100 --events 5 --rate 500"),
    ("saturate", "--channels 50 --events 5000"),
    ("big-beside-small", "--big 1000 --duration-s 2"),
    ("patterns", "--patterns 10,1000 --channels 10 --events 20 --rate 200"),
    ("poll", "--waiting 500 --answered 2 --cycles 5"),
    ("publish", "--publishers 1,8 --requests 500"),
    (
        "durable",
        "--publishers 1,8 --requests 500 --requests-alone 50 --subscribers 20 --rate 50 --events 20",
    ),
    ("churn", "--subscribers 200 --per-s 100 --duration-s 2"),
    ("reconnect-storm", "--subscribers 1000"),
    ("slow-readers", "--fast 100 --slow 100 --events 100 --rate 50"),
    ("soak", "--duration-s 5 --subscribers 200 --passing 50 --channels 10 --waiting 20 --slow 5"),
    ("history", "--live 50 --events 20000 --duration-s 2 --memory-bytes 100000"),
    ("http2", "--connections 10 --streams 20 --events 10 --settle-s 1"),
    (
        "curves",
        "--connections 100,500 --channels 10,30 --patterns 10,100 --payload 64,1024 \
         --payload-subscribers 100 --events 10",
    ),
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn script_of_figures_measures_each_scenario_at_sizes_that_it_takes() {
        let parts: Vec<Vec<&str>> = include_str!("../figures")
            .lines()
            .map(|line| line.trim_end_matches('\'').split('|').collect())
            .filter(|fields: &Vec<&str>| fields.len() == 5 && fields[1].parse::<u32>().is_ok())
            .collect();
        for fields in &parts {
            for sizes in &fields[3..] {
                let command = if fields[0] == "memory" { &["memory"][..] } else { &["run"] };
                let scenario = Some(fields[0]).filter(|name| *name != "memory");
                let sizes = sizes.split(' ').filter(|word| !["", "PLAIN", "TLS"].contains(word));
                let words = ["visnyk-loadtest"].iter().chain(command).copied();
                let parsed = Cli::try_parse_from(words.chain(scenario).chain(sizes));
                assert!(parsed.is_ok(), "{fields:?}: {:?}", parsed.err());
            }
        }
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("there is `run`");
        for scenario in run.get_subcommands().map(|scenario| scenario.get_name()).chain(["memory"])
        {
            assert!(parts.iter().any(|fields| fields[0] == scenario), "{scenario} is not measured");
        }
    }

    #[test]
    fn all_runs_each_scenario() {
        let mut names: Vec<&str> = Vec::new();
        for (words, small) in ALL {
            Scenario::from_words(words.split_whitespace());
            Scenario::from_words(words.split_whitespace().chain(small.split_whitespace()));
            names.extend(words.split(' ').next());
        }
        names.dedup();
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("there is `run`");
        let scenarios: Vec<&str> =
            run.get_subcommands().map(|scenario| scenario.get_name()).collect();
        assert_eq!(names, scenarios);
    }
}
