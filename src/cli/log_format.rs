//! The format of lines on stderr, for all commands. It is determined before the command line is
//! parsed, since refusals of the command line are lines too.

use std::{env, ffi::OsString, process};

use clap::{Arg, Command, error::Error};
use visnyk::telemetry::{self, LogFormat};

/// Sets the format of lines: that of the process's arguments, or else that of its environment.
pub(super) fn choose() {
    if wanted(env::args_os(), env::var_os(VARIABLE)).is_some_and(|format| format == "json") {
        telemetry::print_as(LogFormat::Json);
    }
}

/// Adds the flag to the commands that have no settings.
pub(super) fn with_flag(command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|sub| sub.get_arguments().all(|arg| arg.get_long() != Some(FLAG)))
        .map(|sub| sub.get_name().to_owned())
        .collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| {
            sub.arg(
                Arg::new("log_format")
                    .long(FLAG)
                    .value_name("FORMAT")
                    .value_parser(["text", "json"])
                    .hide_possible_values(true)
                    .global(true)
                    .help("How lines on stderr look: text or json"),
            )
        })
    })
}

/// Prints what is wrong with the command line, and ends the process.
pub(super) fn refuse(error: &Error) -> ! {
    if !error.use_stderr() || !telemetry::prints_json() {
        error.exit();
    }
    let text = error.render().to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    telemetry::print_error(&lines.join("\n"));
    telemetry::flush_logs();
    process::exit(error.exit_code());
}

fn wanted(
    args: impl IntoIterator<Item = OsString>,
    variable: Option<OsString>,
) -> Option<OsString> {
    let mut wanted = variable;
    let mut args = args.into_iter().take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        match arg.to_str().and_then(|arg| arg.strip_prefix("--log-format")) {
            Some("") => wanted = args.next(),
            Some(rest) => wanted = rest.strip_prefix('=').map(OsString::from).or(wanted),
            None => {}
        }
    }
    wanted
}

const FLAG: &str = "log-format";
const VARIABLE: &str = "VISNYK_LOG__FORMAT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_flag_wins_over_the_environment() {
        for (args, variable, expected) in [
            (&["visnyk"][..], None, None),
            (&["visnyk"], Some("json"), Some("json")),
            (&["visnyk", "publish", "--log-format", "json", "a"], None, Some("json")),
            (&["visnyk", "publish", "--log-format=json", "a"], Some("text"), Some("json")),
            (&["visnyk", "--log-format=json", "--log-format", "text"], None, Some("text")),
            (&["visnyk", "publish", "a", "--", "--log-format=json"], None, None),
            (&["visnyk", "--log-formats=json"], None, None),
            (&["visnyk", "--log-format"], None, None),
        ] {
            let args = args.iter().map(OsString::from);
            let found = wanted(args, variable.map(OsString::from));
            assert_eq!(found, expected.map(OsString::from));
        }
    }
}
