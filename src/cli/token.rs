//! `visnyk token`: refused until there is authentication to make tokens for.

use super::CliError;

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Whatever is asked for.
    #[arg(hide = true, allow_hyphen_values = true, trailing_var_arg = true)]
    rest: Vec<String>,
}

/// Says why there are no tokens.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let Args { rest: _ } = args;
    Err(CliError::Usage(
        "`visnyk token` is not available in this version: the hub cannot authenticate clients, so \
         a token would protect nothing"
            .to_owned(),
    ))
}
