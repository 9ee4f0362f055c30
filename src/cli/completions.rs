//! `visnyk completions`: the script with which a shell completes this command line.

use clap_complete::Shell;

use super::{CliError, output::print};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk completions bash > /etc/bash_completion.d/visnyk
  visnyk completions zsh > \"${fpath[1]}/_visnyk\"
  visnyk completions fish > ~/.config/fish/completions/visnyk.fish")]
pub(crate) struct Args {
    /// Shell that is to complete.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for the grammar of `definition`.
pub(crate) fn run(args: Args, mut definition: clap::Command) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "visnyk", &mut script);
    print(script)
}
