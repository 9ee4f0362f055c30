//! `visnyk disconnect`: ends one connection of a running hub.

use super::{
    CliError,
    hub::{HubArgs, ask},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk connections --sort lag --limit 5
  visnyk disconnect 4711

The client may come back, and browsers do: to keep it away, let its token expire or close its channel.
With authentication this needs a token with `admin`.")]
pub(crate) struct Args {
    /// Number of the connection, as `visnyk connections` lists it.
    id: String,
    #[command(flatten)]
    hub: HubArgs,
}

/// Ends the connection.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let operator = args.hub.operator()?;
    ask(operator.end_connection(&args.id))
}
