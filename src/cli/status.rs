//! `visnyk status`: a running hub at one look.

use std::time::Duration;

use serde_json::Value;

use super::{
    CliError,
    hub::{HubArgs, ask},
    human,
    output::print,
    terminal::{Style, Terminal, harmless},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk status
  visnyk status --url https://hub.example.org --token \"$ADMIN_TOKEN\"
  visnyk status --json | jq .connections.streams

On a hub with authentication this needs a token with `admin`.")]
pub(crate) struct Args {
    /// Prints one JSON document, as GET /v1/status gives it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Asks the hub once and prints its status.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let operator = args.hub.operator()?;
    let status = ask(operator.status())?;
    if args.json {
        return print(format!("{status:#}\n"));
    }
    let terminal = Terminal::of_stdout();
    let lines = lines(&status);
    let text: String = match &terminal {
        Some(terminal) => lines
            .iter()
            .map(|line| {
                let name = terminal.styled(Style::Dim, &format!("{:<NAME_WIDTH$}", line.name));
                let style = (line.name == "state").then(|| state_style(&line.for_people));
                let value = style.map_or(line.for_people.clone(), |style| {
                    terminal.styled(style, &line.for_people)
                });
                format!("{name}{value}\n")
            })
            .collect(),
        None => {
            lines.iter().map(|line| format!("{}\t{}\n", line.name, line.for_programs)).collect()
        }
    };
    print(text)
}

/// The colour of a hub's state.
pub(crate) fn state_style(state: &str) -> Style {
    match state {
        "ready" => Style::Green,
        "unready" => Style::Yellow,
        _ => Style::Red,
    }
}

struct Line {
    name: &'static str,
    for_people: String,
    for_programs: String,
}

fn lines(status: &Value) -> Vec<Line> {
    let word = |pointer: &str| {
        harmless(status.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown"))
    };
    let figure = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64);
    let words = |name, pointer: &str| {
        let word = word(pointer);
        Line { name, for_people: word.clone(), for_programs: word }
    };
    let number = |name, pointer: &str, max: Option<&str>, write: fn(u64) -> String| {
        let value = figure(pointer);
        let mut for_people = value.map_or("unknown".to_owned(), write);
        if let Some(max) = max.and_then(figure) {
            for_people += &format!(" of {}", write(max));
        }
        Line { name, for_people, for_programs: value.map(|v| v.to_string()).unwrap_or_default() }
    };
    let age = |ms: u64| human::age(Duration::from_millis(ms));
    vec![
        words("version", "/version"),
        words("state", "/state"),
        number("uptime_ms", "/uptime_ms", None, age),
        words("history", "/history"),
        words("position", "/position"),
        number("shards", "/shards", None, human::count),
        number("streams", "/connections/streams", Some("/connections/max"), human::count),
        number("polls", "/connections/polls", None, human::count),
        number("http", "/connections/http", None, human::count),
        number("channels", "/channels/open", Some("/channels/max"), human::count),
        number("throttled", "/channels/throttled", None, human::count),
        number("memory", "/memory/resident_bytes", None, human::bytes),
        number(
            "retained",
            "/memory/history_bytes",
            Some("/memory/history_bytes_max"),
            human::bytes,
        ),
        number("unsent", "/memory/unsent_bytes", Some("/memory/unsent_bytes_max"), human::bytes),
        number("published", "/since_start/events_published", None, human::count),
        number("deliveries", "/since_start/deliveries", None, human::count),
        number("opened", "/since_start/connections_opened", None, human::count),
        number("fell_behind", "/since_start/fell_behind", None, human::count),
    ]
}

/// The column at which values begin.
const NAME_WIDTH: usize = 14;
