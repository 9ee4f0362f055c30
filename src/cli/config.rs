//! `visnyk config`: shows or checks the settings that `visnyk serve` would run with.

use visnyk::{model::ChannelName, server::settings::Effective};

use super::{CliError, output::print, settings};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk config                       each setting, and where it came from
  visnyk config --check && echo good
  visnyk config > visnyk.toml         a settings file to begin with")]
pub(crate) struct Args {
    /// Only checks them: prints nothing and exits 0, or says what is wrong and exits 2.
    #[arg(long)]
    check: bool,

    /// Prints what holds for a channel of this name, and which rule or limit says so.
    #[arg(long, value_name = "NAME", conflicts_with = "check")]
    channel: Option<String>,

    #[command(flatten)]
    settings: settings::SettingsArgs,
}

/// Prints the settings as a settings file, unless they only are to be checked.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let effective = args.settings.load()?;
    if args.check {
        return Ok(());
    }
    let Some(name) = &args.channel else { return print(page(&effective)) };
    let name = ChannelName::parse(name)
        .map_err(|error| CliError::Usage(format!("--channel {name:?}: {error}")))?;
    print(effective.channel(&name))
}

fn page(effective: &Effective) -> String {
    let files: Vec<_> = effective.files().map(|path| path.display().to_string()).collect();
    let files = if files.is_empty() { "none".to_owned() } else { files.join(", ") };
    format!(
        "# Later layers win: default, file, environment, flag. Files read: {files}\n\
         # SIGHUP and `visnyk reload` change what is marked `reloads`; other settings need a restart.\n{}",
        effective.to_toml()
    )
}
