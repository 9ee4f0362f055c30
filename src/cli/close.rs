//! `visnyk close`: closes a channel of a running hub.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;

use super::{
    CliError,
    hub::{HubArgs, ask},
    human,
    terminal::harmless,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk close jobs/7
  visnyk close jobs/7 --yes      without a question, as in a pipe

Subscribers get `visnyk.closed` and stop. Nothing can be published to the channel for an hour
(limits.channels.tombstone_s). With authentication this needs a token with `admin`.")]
pub(crate) struct Args {
    /// Channel to close.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    channel: String,
    /// Closes the channel without asking.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Asks on a terminal, and closes. An answer other than yes is a failure: the channel is not
/// closed.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let operator = args.hub.operator()?;
    let channel = &args.channel;
    if !args.yes && io::stdin().is_terminal() && io::stderr().is_terminal() {
        let found = ask(operator.channel(channel))?;
        if !confirm(&question(&found)).map_err(CliError::failed)? {
            return Err(CliError::failed("the channel was not closed"));
        }
    }
    ask(operator.close_channel(channel))
}

fn question(found: &Value) -> String {
    let count = |member: &str| human::count(found[member].as_u64().unwrap_or_default());
    format!(
        "Close `{}`, with {} subscribers, {} waiting polls and {} events? [y/N] ",
        harmless(found["channel"].as_str().unwrap_or_default()),
        count("subscribers"),
        count("pollers"),
        count("events_retained")
    )
}

fn confirm(question: &str) -> io::Result<bool> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(question.as_bytes())?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
