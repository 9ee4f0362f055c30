//! `visnyk reload`: has a running hub read its settings again.

use serde_json::Value;

use super::{
    CliError,
    hub::{HubArgs, ask},
    output::print,
    terminal::harmless,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk reload
  visnyk reload --json | jq -e '.needs_restart == []'

The hub reads its settings files and the files that they name, as at its start and by SIGHUP. If
anything is wrong, nothing changes, and this fails with the reason. Open streams are not affected.
`visnyk config` marks what reloads. With authentication this needs a token with `admin`.")]
pub(crate) struct Args {
    /// Prints the hub's answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Asks for a reload, and prints which settings have changed and which need a restart.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let operator = args.hub.operator()?;
    let answer = ask(operator.reload())?;
    if args.json {
        return print(format!("{answer}\n"));
    }
    let changed = match names(&answer, "changed") {
        names if names.is_empty() => "none; keys and certificates were read again".to_owned(),
        names => names,
    };
    let mut text = format!("changed: {changed}\n");
    let needs_restart = names(&answer, "needs_restart");
    if !needs_restart.is_empty() {
        text += &format!("needs a restart, old values stay: {needs_restart}\n");
    }
    print(text)
}

fn names(answer: &Value, member: &str) -> String {
    let names = answer[member].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(|name| harmless(name).to_string()).collect::<Vec<_>>().join(", ")
}
