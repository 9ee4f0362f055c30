//! `visnyk subscribe`.

use super::CliError;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Stands in until the client is merged.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let Args {} = args;
    Err(CliError::failed("`visnyk subscribe` is not built yet"))
}
