//! The grammar of the command line, and the step from it to the commands.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{
    CliError, channels, close, completions, config, connections, disconnect, health, log,
    log_format, man, publish, reload, serve, status, subscribe, token, top,
};

/// An event hub for high fan-out push over Server-Sent Events and long-polling.
///
/// Without a command it runs the hub, with the options of `visnyk serve`.
#[derive(Debug, Parser)]
#[command(
    name = "visnyk",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    override_usage = "visnyk [OPTIONS]\n       visnyk COMMAND [OPTIONS]",
    after_help = EXAMPLES
)]
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
    /// Prints the effective settings, with where each came from.
    Config(config::Args),
    /// Mints tokens with the secret of the settings, and explains them.
    Token(token::Args),
    /// Inspects a log on disk while no hub uses it, exports it, or makes it usable again.
    Log(log::Args),
    /// Publishes to a channel: one event, the lines of a file, or those of stdin.
    Publish(publish::Args),
    /// Prints the events of channels as they come.
    Subscribe(subscribe::Args),
    /// Shows a running hub at one look.
    Status(status::Args),
    /// Lists the channels of a running hub.
    Channels(channels::Args),
    /// Lists the connections of a running hub, or explains one.
    Connections(connections::Args),
    /// Shows rates, channels and slow connections of a running hub, again and again.
    Top(top::Args),
    /// Closes a channel.
    Close(close::Args),
    /// Ends a connection.
    Disconnect(disconnect::Args),
    /// Has a running hub read its settings again.
    Reload(reload::Args),
    /// Exits 0 if a hub answers: for health checks of containers.
    Health(health::Args),
    /// Prints the script with which a shell completes this command line.
    Completions(completions::Args),
    /// Writes the manual pages into a directory.
    Man(man::Args),
}

/// The whole grammar: what is parsed, and what help, completions and manual pages are made of.
pub(crate) fn definition() -> clap::Command {
    // Options of `visnyk` without a command are shown at `serve`.
    let command = log_format::with_flag(Cli::command()).mut_args(|arg| arg.hide(true));
    let groups = GROUPS.map(|(heading, names)| {
        let line = |name: &&str| {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            format!(
                "  {name:<COMMAND_WIDTH$}{}\n",
                about.map(ToString::to_string).unwrap_or_default()
            )
        };
        format!("{heading}:\n{}\n", names.iter().map(line).collect::<String>())
    });
    let template = format!(
        "{{about-section}}\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
        groups.concat()
    );
    command.help_template(template)
}

const EXAMPLES: &str = "\
Examples:
  visnyk --demo                        a hub on port 3000 of this machine, with something to look at
  visnyk subscribe default             what it publishes
  visnyk publish news 'Hello'          publishes an event

`visnyk help COMMAND` explains a command, with examples.";

/// The commands in the order of help, grouped by purpose.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Run a hub", &["serve", "config", "token", "log"]),
    ("Use a hub", &["publish", "subscribe"]),
    (
        "Look after a running hub",
        &["status", "channels", "connections", "top", "close", "disconnect", "reload", "health"],
    ),
    ("This program", &["completions", "man"]),
];

/// The column at which descriptions of commands begin, after their indentation.
const COMMAND_WIDTH: usize = 14;

impl Cli {
    /// Reads the command line of the process. Ends the process with code 2 if it is refused, and
    /// with 0 after help.
    pub(crate) fn parse() -> Self {
        log_format::choose();
        let parsed =
            definition().try_get_matches().and_then(|matches| Self::from_arg_matches(&matches));
        parsed.unwrap_or_else(|error| log_format::refuse(&error))
    }

    /// Runs the command to its end.
    pub(crate) fn run(self) -> Result<(), CliError> {
        match self.command {
            None => serve::run(self.serve),
            Some(Command::Serve(args)) => serve::run(args),
            Some(Command::Config(args)) => config::run(args),
            Some(Command::Token(args)) => token::run(args),
            Some(Command::Log(args)) => log::run(args),
            Some(Command::Publish(args)) => publish::run(args),
            Some(Command::Subscribe(args)) => subscribe::run(args),
            Some(Command::Status(args)) => status::run(args),
            Some(Command::Channels(args)) => channels::run(args),
            Some(Command::Connections(args)) => connections::run(args),
            Some(Command::Top(args)) => top::run(args),
            Some(Command::Close(args)) => close::run(args),
            Some(Command::Disconnect(args)) => disconnect::run(args),
            Some(Command::Reload(args)) => reload::run(args),
            Some(Command::Health(args)) => health::run(args),
            Some(Command::Completions(args)) => completions::run(args, definition()),
            Some(Command::Man(args)) => man::run(args, definition()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn every_command_is_in_one_group_of_the_help() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        grouped.sort_unstable();
        let definition = definition();
        let shown = definition.get_subcommands().filter(|command| !command.is_hide_set());
        let mut shown: Vec<&str> = shown.map(clap::Command::get_name).collect();
        shown.sort_unstable();
        assert_eq!(grouped, shown);
        assert!(shown.iter().all(|name| name.len() < COMMAND_WIDTH));
    }
}
