//! `visnyk man`: the manual pages, a file for each command.

use std::path::PathBuf;

use super::CliError;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk man /usr/local/share/man/man1")]
pub(crate) struct Args {
    /// Directory to write them to; it is created if it does not exist.
    directory: PathBuf,
}

/// Writes visnyk.1, visnyk-serve.1 and so on for the grammar of `definition`.
pub(crate) fn run(args: Args, definition: clap::Command) -> Result<(), CliError> {
    let Args { directory } = args;
    let written = std::fs::create_dir_all(&directory)
        .and_then(|()| clap_mangen::generate_to(definition, &directory));
    written.map_err(|error| CliError::failed(format!("{}: {error}", directory.display())))
}
