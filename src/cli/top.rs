//! `visnyk top`: a running hub, looked at again and again.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};
use visnyk::{
    client::{OperateError, Operator},
    telemetry,
};

use super::{
    CliError, channels, connections,
    hub::{HubArgs, run_until_interrupted, say},
    rates::{Look, Rates, summary_line},
    screen::Screen,
    status::state_style,
    terminal::{Style, Terminal, cut, harmless},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk top                        q or Ctrl-C ends it
  visnyk top --interval 10
  visnyk top --count 6 > load.tsv   a line every two seconds, separated by tabs

Rates are those between two looks. Each look is three requests; the tables are made of the first
1,000 channels and of 1,000 connections that are behind. With authentication this needs a token with
`admin`.")]
pub(crate) struct Args {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// Ends after so many looks.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    hub: HubArgs,
}

/// Looks until q, Ctrl-C, or the count is reached: all of them success. A hub that cannot be
/// reached at the first look is a failure, and later a note.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let endpoint = args.hub.endpoint()?;
    let url = endpoint.to_string();
    let operator = Operator::new(endpoint, ANSWER_TIMEOUT);
    let pace = Pace { interval: args.interval, count: args.count };
    let looking = async {
        match Screen::open().map_err(CliError::failed)? {
            Some(screen) => on_screen(&operator, &url, &pace, screen).await,
            None => line_by_line(&operator, &pace).await,
        }
    };
    run_until_interrupted(looking, || Ok(()))
}

struct Pace {
    interval: Duration,
    count: Option<u64>,
}

/// The figures of the hub, and what is looked at besides.
struct Found {
    look: Look,
    status: Value,
    channels: Vec<Value>,
    behind: Vec<Value>,
}

/// A line for each look, below headings.
async fn line_by_line(operator: &Operator, pace: &Pace) -> Result<(), CliError> {
    let mut every = interval(pace.interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rates: Option<Rates> = None;
    let mut looks = 0;
    while pace.count.is_none_or(|count| looks < count) {
        every.tick().await;
        looks += 1;
        match operator.status().await {
            Ok(status) => {
                let now = Rates::next(rates.as_ref(), Look::of(&status, Instant::now()));
                let headings = if rates.is_none() { Rates::HEADINGS } else { "" };
                if !try_print(&format!("{headings}{}\n", now.to_line()))? {
                    return Ok(());
                }
                rates = Some(now);
            }
            Err(error) if rates.is_none() => return Err(CliError::failed(error)),
            Err(error) => say(&telemetry::with_causes(&error)),
        }
    }
    Ok(())
}

/// Prints; false if the reader has closed the pipe.
fn try_print(text: &str) -> Result<bool, CliError> {
    use std::io::{self, Write};

    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).map_err(CliError::failed),
    }
}

/// Draws the screen anew at each look. The terminal is restored however the command ends.
async fn on_screen(
    operator: &Operator,
    url: &str,
    pace: &Pace,
    mut screen: Screen,
) -> Result<(), CliError> {
    let mut every = interval(pace.interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut rates, mut shown): (Option<Rates>, Option<Found>) = (None, None);
    let mut looks = 0;
    while pace.count.is_none_or(|count| looks < count) {
        tokio::select! {
            _ = every.tick() => {}
            () = screen.quit() => return Ok(()),
        }
        looks += 1;
        let found = tokio::select! {
            found = look(operator) => found,
            () = screen.quit() => return Ok(()),
        };
        let note = match found {
            Ok(found) => {
                rates = Some(Rates::next(rates.as_ref(), found.look.clone()));
                shown = Some(found);
                None
            }
            // The screen is restored before the error is printed.
            Err(error) if shown.is_none() => return Err(CliError::failed(error)),
            Err(error) => Some(telemetry::with_causes(&error)),
        };
        if let (Some(rates), Some(shown)) = (&rates, &shown) {
            let terminal = Terminal::of_stdout().unwrap_or(screen.terminal);
            screen.draw(&page(&terminal, url, rates, shown, note.as_deref()))?;
        }
    }
    Ok(())
}

async fn look(operator: &Operator) -> Result<Found, OperateError> {
    let status = operator.status().await?;
    let look = Look::of(&status, Instant::now());
    let rows = |mut page: Value, member: &str| match page[member].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    };
    let channels = rows(operator.channels(&[("limit", ROWS_MAX)]).await?, "channels");
    let behind = [("limit", ROWS_MAX), ("state", "behind")];
    let behind = rows(operator.connections(&behind).await?, "connections");
    Ok(Found { look, status, channels, behind })
}

/// The lines of the screen: a summary, the channels with most subscribers, the connections furthest
/// behind.
fn page(
    terminal: &Terminal,
    url: &str,
    rates: &Rates,
    found: &Found,
    note: Option<&str>,
) -> Vec<String> {
    let word = |member: &str| harmless(found.status[member].as_str().unwrap_or("unknown"));
    let state = word("state");
    let head = format!("{url}  visnyk {}  up {}  ", word("version"), rates.uptime());
    let head = cut(&head, terminal.columns.saturating_sub(state.len()));
    let mut lines = vec![head + &terminal.styled(state_style(&state), &state)];
    for line in summary_line(rates, &found.status) {
        lines.push(cut(&line, terminal.columns));
    }
    if let Some(note) = note {
        let note = cut(&harmless(note).replace('\n', " "), terminal.columns);
        lines.push(terminal.styled(Style::Red, &note));
    }
    let left = terminal.lines.saturating_sub(lines.len() + TABLE_FRAMES);
    let sorted = |rows: &[Value], member: &str, max: usize| -> Vec<Value> {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| std::cmp::Reverse(row[member].as_u64().unwrap_or(0)));
        rows.truncate(max);
        rows
    };
    let behind = sorted(&found.behind, "lag_events", left / 2);
    let channels = sorted(&found.channels, "subscribers", left - behind.len());
    lines.push(String::new());
    lines.extend(channels::table(&channels).render(Some(terminal)).lines().map(str::to_owned));
    if !behind.is_empty() {
        lines.push(String::new());
        let table = connections::table(&behind);
        lines.extend(table.render(Some(terminal)).lines().map(str::to_owned));
    }
    lines.truncate(terminal.lines);
    lines
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let seconds = seconds.filter(|seconds| (0.1..=3_600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "0.1 to 3600 seconds".to_owned())
}

/// Two empty lines and two lines of headings.
const TABLE_FRAMES: usize = 4;
/// Rows of a page.
const ROWS_MAX: &str = "1000";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
