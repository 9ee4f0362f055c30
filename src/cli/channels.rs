//! `visnyk channels`: the channels of a running hub.

use clap::ValueEnum;
use serde_json::Value;

use super::{
    CliError,
    hub::{HubArgs, run_once},
    human,
    pages::{Listing, PageArgs, SortKey},
    table::{Cell, Column, Table},
    terminal::Style,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk channels                          in the order of their names
  visnyk channels orders/                  those whose names begin with that
  visnyk channels --sort subscribers --limit 10
  visnyk channels --json | jq -r '.channels[].channel'

In a pipe the rows are separated by tabs, figures are whole, and the first line has the headings.")]
pub(crate) struct Args {
    /// Only channels whose names begin with this.
    prefix: Option<String>,
    /// Largest first, of at most 20,000 channels; otherwise they are in the order of their names.
    #[arg(long, value_enum)]
    sort: Option<By>,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Subscribers,
    Pollers,
    Events,
    Bytes,
}

impl SortKey for By {
    fn member(&self) -> &'static str {
        match self {
            Self::Subscribers => "subscribers",
            Self::Pollers => "pollers",
            Self::Events => "events_retained",
            Self::Bytes => "bytes_retained",
        }
    }
}

/// Prints one listing.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let operator = args.hub.operator()?;
    let prefix = args.prefix.as_deref();
    let listing = run_once(Listing::fetch(
        "channels",
        &args.page,
        args.sort.as_ref(),
        async |page: &[(&str, &str)]| {
            let prefix = prefix.map(|prefix| ("prefix", prefix));
            let query: Vec<_> = page.iter().copied().chain(prefix).collect();
            operator.channels(&query).await
        },
    ))?;
    listing.print(&args.page, table)
}

/// Channels as a table.
pub(crate) fn table(channels: &[Value]) -> Table {
    let mut table = Table::new(&[
        Column::long("CHANNEL"),
        Column::number("SUBSCRIBERS"),
        Column::number("POLLERS"),
        Column::number("EVENTS"),
        Column::number("BYTES"),
        Column::words("LAST"),
        Column::words("STATE"),
    ]);
    for channel in channels {
        let text = |member: &str| channel[member].as_str().unwrap_or_default();
        let number = |member: &str| channel[member].as_u64().unwrap_or_default();
        let count = |member: &str| Cell::figure(human::count(number(member)), number(member));
        let (state, style) = match (channel["closed"] == true, channel["truncated"] == true) {
            (true, _) => ("closed", Some(Style::Red)),
            (_, true) => ("truncated", Some(Style::Dim)),
            _ => ("open", Some(Style::Green)),
        };
        let bytes = number("bytes_retained");
        table.push(vec![
            Cell::text(text("channel")),
            count("subscribers"),
            count("pollers"),
            count("events_retained"),
            Cell::figure(human::bytes(bytes), bytes),
            Cell::text(text("last_id")),
            Cell::text(state).styled(style),
        ]);
    }
    table
}
