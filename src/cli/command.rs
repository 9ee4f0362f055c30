//! The grammar of the command line, and the step from it to the commands.

use clap::{Parser, Subcommand};

use super::{CliError, publish, subscribe};

/// An event hub for high fan-out push over Server-Sent Events and long-polling.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publishes to a channel: one event, the lines of a file, or those of stdin.
    Publish(publish::Args),
    /// Prints the events of channels as they come.
    Subscribe(subscribe::Args),
}

impl Cli {
    /// Runs the command to its end.
    pub(crate) fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Publish(args) => publish::run(args),
            Command::Subscribe(args) => subscribe::run(args),
        }
    }
}
