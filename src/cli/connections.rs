//! `visnyk connections`: the connections of a running hub, and one of them in words.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use super::{
    CliError, explain,
    hub::{HubArgs, ask, run_once},
    human,
    output::print,
    pages::{Listing, PageArgs, SortKey},
    table::{Cell, Column, Table},
    terminal::Style,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk connections --sort lag --limit 10        those that are furthest behind
  visnyk connections --state behind --channel orders/eu
  visnyk connections --state closed               those that ended lately, and why
  visnyk connections 4711                         explains one in words

With authentication a token shows the connections of its subject, and one with `admin` all.
In a pipe the rows are separated by tabs, figures are whole, and the first line has the headings.")]
pub(crate) struct Args {
    /// The connection to explain; one that ended lately is known too.
    #[arg(conflicts_with_all = ["channel", "state", "transport", "sort", "limit", "after"])]
    id: Option<String>,
    /// Only those that receive this channel, by its name or by a pattern.
    #[arg(long)]
    channel: Option<String>,
    /// Only those in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those of this transport.
    #[arg(long, value_enum)]
    transport: Option<Transport>,
    /// Largest first, of at most 20,000 connections; otherwise they are in the hub's own order.
    #[arg(long, value_enum)]
    sort: Option<By>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Live,
    Behind,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    Sse,
    Poll,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Events that it lags.
    Lag,
    /// Bytes that it lags.
    LagBytes,
    /// Bytes a second that it is sent.
    Rate,
    /// Since its peer last took a byte.
    Idle,
    /// Since it was opened.
    Age,
}

impl SortKey for By {
    fn member(&self) -> &'static str {
        match self {
            Self::Lag => "lag_events",
            Self::LagBytes => "lag_bytes",
            Self::Rate => "bytes_per_s",
            Self::Idle => "idle_ms",
            Self::Age => "age_s",
        }
    }
}

/// Prints one listing, or the explanation of one connection.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let operator = args.hub.operator()?;
    if let Some(id) = args.id {
        let found = ask(operator.connection(&id))?;
        let text =
            if args.page.json { format!("{found:#}\n") } else { explain::connection(&found) };
        return print(text);
    }
    let word = |value: Option<clap::builder::PossibleValue>| value.map(|v| v.get_name().to_owned());
    let state = word(args.state.and_then(|state| state.to_possible_value()));
    let transport = word(args.transport.and_then(|transport| transport.to_possible_value()));
    let filters = [("channel", args.channel), ("state", state), ("transport", transport)];
    let filters: Vec<(&str, &str)> =
        filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let listing = run_once(Listing::fetch(
        "connections",
        &args.page,
        args.sort.as_ref(),
        async |page: &[(&str, &str)]| {
            let query: Vec<_> = page.iter().chain(&filters).copied().collect();
            operator.connections(&query).await
        },
    ))?;
    listing.print(&args.page, table)
}

/// Connections as a table.
pub(crate) fn table(connections: &[Value]) -> Table {
    let mut table = Table::new(&[
        Column::words("ID"),
        Column::words("STATE"),
        Column::words("VIA"),
        Column::number("LAG"),
        Column::number("LAG BYTES"),
        Column::number("BYTES/S"),
        Column::number("IDLE"),
        Column::number("AGE"),
        Column::long("CHANNELS"),
        Column::words("PEER"),
        Column::long("IDENTITY"),
    ]);
    for connection in connections {
        let text = |member: &str| connection[member].as_str().unwrap_or_default();
        let number = |member: &str| connection[member].as_u64().unwrap_or_default();
        let count = |member: &str| Cell::figure(human::count(number(member)), number(member));
        let (bytes, idle_ms, age_s) = (number("lag_bytes"), number("idle_ms"), number("age_s"));
        let rate = number("bytes_per_s");
        let state = match text("reason") {
            "" => text("state").to_owned(),
            reason => format!("{}: {reason}", text("state")),
        };
        let style = match text("state") {
            "live" => Style::Green,
            "behind" => Style::Yellow,
            _ => Style::Dim,
        };
        table.push(vec![
            Cell::text(text("id")),
            Cell::text(&state).styled(Some(style)),
            Cell::text(text("transport")),
            count("lag_events"),
            Cell::figure(human::bytes(bytes), bytes),
            Cell::figure(human::bytes(rate), rate),
            Cell::figure(human::age(Duration::from_millis(idle_ms)), idle_ms),
            Cell::figure(human::age(Duration::from_secs(age_s)), age_s),
            Cell::text(&explain::selectors(connection, " ")),
            Cell::text(text("peer")),
            Cell::text(text("identity")),
        ]);
    }
    table
}
