//! `visnyk subscribe`: prints events as they come, across connections that break.

use std::io;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;
use tokio::io::{AsyncWriteExt, Stdout};
use visnyk::{
    client::{Event, Gap, Position, SubscribeOptions, Subscription, Transport, Update},
    telemetry,
};

use super::hub::{HubArgs, run_until_interrupted, say};
use super::terminal::Terminal;
use super::{CliError, pretty};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk subscribe news 'jobs/**'               from now on
  visnyk subscribe news --from earliest         what is retained, and then what comes
  visnyk subscribe news --count 1 > event.txt   one event: in a pipe its data alone
  visnyk subscribe news --format json | jq .

On a terminal it prints time, channel, type and data, without colours if NO_COLOR is set. Ctrl-C ends it.")]
pub(crate) struct Args {
    #[command(flatten)]
    hub: HubArgs,
    /// Channels and patterns: `*` is one segment of a name, `**` any number.
    #[arg(required = true, value_name = "CHANNEL", value_parser = NonEmptyStringValueParser::new())]
    channels: Vec<String>,
    /// What to print of an event. Default: pretty on a terminal, data elsewhere.
    #[arg(long, value_enum)]
    format: Option<OutputFormat>,
    /// Where to begin: `now`, `earliest` or a position.
    #[arg(long, value_name = "POSITION", default_value_t = Position::NOW)]
    from: Position,
    /// Begins with so many of the latest events of each channel, 1 to 1000.
    #[arg(
        long,
        value_name = "NUMBER",
        conflicts_with = "from",
        value_parser = clap::value_parser!(u32).range(1..=1_000),
    )]
    last: Option<u32>,
    /// How events travel.
    #[arg(long, value_enum, default_value_t)]
    transport: TransportArg,
    /// Only events of this type; may be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Ends after so many events.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Says nothing about the connection on stderr.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// The data of the event.
    Data,
    /// The envelope of the event, on one line.
    Json,
    /// The block of the event, as in a stream.
    Sse,
    /// For people: time, channel, type and data, JSON with a line for each member.
    Pretty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum TransportArg {
    #[default]
    Sse,
    Poll,
}

/// Prints until the channels are closed, the count is reached, stdout is closed, or Ctrl-C: all of
/// them success.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let mut options = SubscribeOptions::new(args.channels);
    options.types = args.types;
    options.from = args.from;
    options.last = args.last;
    options.transport = match args.transport {
        TransportArg::Sse => Transport::Sse,
        TransportArg::Poll => Transport::Poll,
    };
    let subscription = Subscription::new(args.hub.endpoint()?, options);
    let terminal = Terminal::of_stdout();
    let default = if terminal.is_some() { OutputFormat::Pretty } else { OutputFormat::Data };
    let printer = Printer { format: args.format.unwrap_or(default), terminal, quiet: args.quiet };
    run_until_interrupted(printer.print(subscription, args.count), || Ok(()))
}

struct Printer {
    format: OutputFormat,
    /// The terminal on stdout, if stdout is one.
    terminal: Option<Terminal>,
    quiet: bool,
}

impl Printer {
    async fn print(
        &self,
        mut subscription: Subscription,
        count: Option<u64>,
    ) -> Result<(), CliError> {
        let mut stdout = tokio::io::stdout();
        // Updates that were read together are written together: each write switches to another
        // thread and back.
        let mut text = String::new();
        let mut printed = 0;
        while let Some(update) = subscription.next().await.map_err(CliError::failed)? {
            let is_event = matches!(update, Update::Event(_));
            if !is_event && !write(&mut stdout, &mut text).await? {
                break;
            }
            self.note(&update);
            text.extend(self.to_text(&update));
            printed += u64::from(is_event);
            let is_last = Some(printed) == count;
            let is_due = is_last || text.len() >= WRITE_BYTES || !subscription.has_next();
            if is_due && !write(&mut stdout, &mut text).await? || is_last {
                break;
            }
        }
        Ok(())
    }

    /// The text for stdout.
    fn to_text(&self, update: &Update) -> Option<String> {
        match (self.format, update) {
            (OutputFormat::Data, Update::Event(event)) => Some(format!("{}\n", event.data)),
            (OutputFormat::Json, Update::Event(event)) => Some(to_json(event) + "\n"),
            (OutputFormat::Pretty, Update::Event(event)) => {
                // The window may have another size by now.
                let terminal = self.terminal.and_then(|_| Terminal::of_stdout());
                Some(pretty::event(event, &terminal.unwrap_or(Terminal::PLAIN)))
            }
            (OutputFormat::Sse, Update::Event(event)) => Some(event_block(event)),
            (OutputFormat::Sse, Update::Gap(gap)) => {
                Some(format!("event: visnyk.gap\ndata: {}\n\n", to_json(gap)))
            }
            (OutputFormat::Sse, Update::Closed { channel }) => {
                Some(format!("event: visnyk.closed\ndata: {channel}\n\n"))
            }
            _ => None,
        }
    }

    /// Prints a note on stderr.
    fn note(&self, update: &Update) {
        if self.quiet {
            return;
        }
        match update {
            Update::Opened { position } => say(&format!("subscribed at {position}")),
            Update::Gap(gap) => say(&describe_gap(gap)),
            Update::Closed { channel } => say(&format!("channel `{channel}` is closed")),
            Update::Reconnecting { failure, wait } => {
                let (failure, wait) = (telemetry::with_causes(failure), wait.as_secs_f64());
                say(&format!("{failure}; again in {wait:.1} s"));
            }
            _ => {}
        }
    }
}

/// Writes the text and clears it; false if the reader has closed the pipe, which ends a pipeline in
/// good order.
async fn write(stdout: &mut Stdout, text: &mut String) -> Result<bool, CliError> {
    let written = async {
        stdout.write_all(text.as_bytes()).await?;
        stdout.flush().await
    };
    let written = if text.is_empty() { Ok(()) } else { written.await };
    text.clear();
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::failed(error)),
    }
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings are JSON")
}

fn event_block(event: &Event) -> String {
    let mut block = String::new();
    if let Some(event_type) = event.event_type.as_ref().filter(|name| *name != "message") {
        block += &format!("event: {event_type}\n");
    }
    for line in event.data.split('\n') {
        block += &format!("data: {line}\n");
    }
    block + &format!("id: {}\n\n", event.id)
}

fn describe_gap(gap: &Gap) -> String {
    let mut text = format!("events are missing ({})", gap.reason);
    if let Some(channel) = &gap.channel {
        text += &format!(" on `{channel}`");
    }
    if let Some(requested) = &gap.requested {
        text += &format!(" after {requested}");
    }
    text
}

/// Bytes after which gathered text is written, although more updates were read.
const WRITE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, data: &str) -> Update {
        Update::Event(Event {
            id: "a-1".into(),
            channel: "prices".into(),
            event_type: Some(event_type.into()),
            time: "2026-01-02T03:04:05.678Z".into(),
            data: data.into(),
        })
    }

    #[test]
    fn each_format_prints_an_event_its_way() {
        let print =
            |format, update| Printer { format, terminal: None, quiet: true }.to_text(&update);
        let (two_lines, typed) = (|| event("message", "a\nb"), || event("t", "x"));
        assert_eq!(print(OutputFormat::Data, two_lines()).as_deref(), Some("a\nb\n"));
        assert_eq!(
            print(OutputFormat::Sse, two_lines()).as_deref(),
            Some("data: a\ndata: b\nid: a-1\n\n")
        );
        assert_eq!(
            print(OutputFormat::Sse, typed()).as_deref(),
            Some("event: t\ndata: x\nid: a-1\n\n")
        );
        assert_eq!(
            print(OutputFormat::Json, typed()).as_deref(),
            Some(
                "{\"id\":\"a-1\",\"channel\":\"prices\",\"type\":\"t\",\
                 \"time\":\"2026-01-02T03:04:05.678Z\",\"data\":\"x\"}\n"
            )
        );
    }
}
