//! The grammar of the command line, and the step from it to the commands.

use clap::{Parser, Subcommand};

use super::{CliError, config, log, publish, serve, subscribe, token};

/// An event hub for high fan-out push over Server-Sent Events and long-polling.
///
/// Without a command, runs the hub.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    serve: serve::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the hub (the default).
    Serve(serve::Args),
    /// Publishes to a channel: one event, the lines of a file, or those of stdin.
    Publish(publish::Args),
    /// Prints the events of channels as they come.
    Subscribe(subscribe::Args),
    /// Mints tokens with the secret of the settings, and explains them.
    Token(token::Args),
    /// Prints the effective settings, with where each came from.
    Config(config::Args),
    /// Looks at a log on disk while no hub uses it, exports it, or makes it usable again.
    Log(log::Args),
}

impl Cli {
    /// Runs the command to its end.
    pub(crate) fn run(self) -> Result<(), CliError> {
        match self.command {
            None => serve::run(self.serve),
            Some(Command::Serve(args)) => serve::run(args),
            Some(Command::Publish(args)) => publish::run(args),
            Some(Command::Subscribe(args)) => subscribe::run(args),
            Some(Command::Token(args)) => token::run(args),
            Some(Command::Config(args)) => config::run(args),
            Some(Command::Log(args)) => log::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
