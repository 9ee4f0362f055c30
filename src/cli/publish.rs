//! `visnyk publish`: one event, or every line of a file or of stdin, exactly once and in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thiserror::Error;
use tokio::time::Instant;
use visnyk::{
    client::{Batch, Endpoint, Failure, PublishError, Publisher, PublisherOptions, TraceContext},
    telemetry,
};

use super::CliError;
use super::feed::{Feed, FeedError, FeedFormat, Record, format_of};
use super::hub::{HubArgs, run_until_interrupted, say};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk publish news 'Hello'
  visnyk publish orders '{\"id\":7}' --type created
  tail -f app.log | visnyk publish logs/app          each line is an event
  visnyk publish prices --file day.ndjson --rate 50  as a live ticker")]
pub(crate) struct Args {
    #[command(flatten)]
    hub: HubArgs,
    /// Channel to publish to.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    channel: String,
    /// Data of one event. Without it, every line of the file or of stdin is an event.
    #[arg(conflicts_with_all = ["file", "ndjson", "json_array", "rate", "skip"])]
    data: Option<String>,
    /// File to read instead of stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Lines are envelopes `{"data":…,"type"?,"retry"?,"channel"?}`, and CHANNEL is for those that
    /// name none. Implied by a file name that ends in .ndjson or .jsonl.
    #[arg(long, conflicts_with = "json_array")]
    ndjson: bool,
    /// The input is one JSON array, and each element is the data of an event.
    #[arg(long)]
    json_array: bool,
    /// Type of the events that do not have their own.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Events a second, to replay a file as a live ticker; as fast as possible without it.
    #[arg(long, value_name = "NUMBER", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Events to leave out at the beginning: a header line, or what an earlier run published.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    skip: u64,
    /// Seconds for which failed attempts are repeated; at most 240, since the hub remembers for
    /// 300 what it has taken.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(0..=240)
    )]
    retry_for: u64,
    #[command(flatten)]
    trace: TraceArgs,
}

/// The trace that the events belong to.
#[derive(Debug, clap::Args)]
struct TraceArgs {
    /// Span of yours that the events belong to, as W3C Trace Context writes it. One that is
    /// malformed is ignored.
    #[arg(long, env = "TRACEPARENT", hide_env_values = true, help_heading = "Trace")]
    traceparent: Option<OsString>,
    /// What other tracing systems pass along with it.
    #[arg(long, env = "TRACESTATE", hide_env_values = true, help_heading = "Trace")]
    tracestate: Option<OsString>,
}

impl TraceArgs {
    /// The context to send, if there is one that can be.
    fn context(&self) -> Option<TraceContext> {
        let parent = self.traceparent.as_ref().filter(|parent| !parent.is_empty())?;
        match TraceContext::parse(&parent.to_string_lossy()) {
            Ok(context) => Some(match &self.tracestate {
                Some(state) => context.with_state(&state.to_string_lossy()),
                None => context,
            }),
            Err(error) => {
                say(&format!("traceparent is ignored: {error}"));
                None
            }
        }
    }
}

/// Publishes, and prints the last position on stdout.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let bar = ProgressBar::hidden();
    let tally = Tally {
        events: Cell::new(0),
        reported: Cell::new(Instant::now()),
        last_id: RefCell::default(),
    };
    let options = PublisherOptions {
        retry_for: Duration::from_secs(args.retry_for),
        ..PublisherOptions::default()
    };
    let trace = args.trace.context();
    let publisher_to = |endpoint: Endpoint, bar: &ProgressBar| {
        let publisher = Publisher::new(endpoint, options).on_retry(reports_to(bar.clone()));
        match trace {
            Some(context) => publisher.in_trace(context),
            None => publisher,
        }
    };
    let result = if let Some(data) = args.data {
        let publisher = publisher_to(args.hub.endpoint()?, &bar);
        let publish = async {
            let published = publisher.publish(&args.channel, data, args.event_type.as_deref());
            tally.add(1, published.await.map_err(CliError::failed)?.id);
            Ok(())
        };
        run_until_interrupted(publish, || Err(CliError::failed(Interrupted)))
    } else {
        let format = match &args.file {
            _ if args.json_array => FeedFormat::JsonArray,
            _ if args.ndjson => FeedFormat::Ndjson,
            Some(file) => format_of(file),
            None => FeedFormat::Lines,
        };
        let feed = Feed::open(args.file.as_deref(), format).map_err(|error| {
            let file = args.file.unwrap_or_default();
            CliError::Usage(format!("cannot read {}: {error}", file.display()))
        })?;
        let bar = progress_bar(&feed);
        let publisher = publisher_to(args.hub.endpoint()?, &bar);
        let replay = Replay {
            publisher,
            channel: args.channel,
            format,
            event_type: args.event_type,
            pace: args.rate.map(Pace::new),
            to_skip: args.skip,
            records: VecDeque::new(),
            tally: &tally,
            bar: &bar,
        };
        let stopped = |cause| {
            let stopped = Stopped { acknowledged: tally.events.get(), cause };
            Err(CliError::failed(stopped))
        };
        let result =
            run_until_interrupted(async { replay.run(feed).await.or_else(stopped) }, || {
                stopped(Cause::Interrupted)
            });
        bar.finish_and_clear();
        result
    };
    if telemetry::prints_json() && result.is_ok() {
        tally.report();
    }
    if let Some(id) = tally.last_id.take() {
        // A reader that has closed the pipe has seen enough.
        let _ = writeln!(std::io::stdout(), "{id}");
    }
    result
}

/// The events that the hub has acknowledged so far.
#[derive(Debug)]
struct Tally {
    events: Cell<u64>,
    /// When the progress was last reported.
    reported: Cell<Instant>,
    last_id: RefCell<Option<String>>,
}

impl Tally {
    fn add(&self, events: u64, last_id: String) {
        self.events.set(self.events.get() + events);
        if telemetry::prints_json() && self.reported.get().elapsed() >= REPORT_EVERY {
            self.report();
        }
        self.last_id.replace(Some(last_id));
    }

    /// Prints the progress as a line, where no progress bar is shown.
    fn report(&self) {
        self.reported.set(Instant::now());
        say(&format!("{} events acknowledged", self.events.get()));
    }
}

/// Publishing stopped before the end of the input.
#[derive(Debug, Error)]
#[error("{acknowledged} events acknowledged, then it stopped")]
struct Stopped {
    acknowledged: u64,
    #[source]
    cause: Cause,
}

/// Why publishing stopped.
#[derive(Debug, Error)]
enum Cause {
    #[error("the input cannot be read on")]
    Feed(#[from] FeedError),
    #[error("the hub did not take {0} of the input")]
    Publish(String, #[source] Box<PublishError>),
    #[error("interrupted; the events on their way may have been published")]
    Interrupted,
}

#[derive(Debug, Error)]
#[error("interrupted; the event may have been published")]
struct Interrupted;

struct Replay<'a> {
    publisher: Publisher,
    channel: String,
    format: FeedFormat,
    event_type: Option<String>,
    pace: Option<Pace>,
    to_skip: u64,
    /// Read but not yet in a batch: at most one chunk of the feed.
    records: VecDeque<Record>,
    tally: &'a Tally,
    bar: &'a ProgressBar,
}

impl Replay<'_> {
    async fn run(mut self, mut feed: Feed) -> Result<(), Cause> {
        while let Some(chunk) = feed.next().await? {
            self.take(chunk);
            while !self.records.is_empty() {
                self.publish_batch(&mut feed).await?;
            }
        }
        Ok(())
    }

    fn take(&mut self, chunk: Vec<Record>) {
        let skipped = usize::try_from(self.to_skip).unwrap_or(usize::MAX).min(chunk.len());
        self.to_skip -= skipped as u64;
        self.records.extend(chunk.into_iter().skip(skipped));
    }

    /// Publishes what is due, as much of it as one batch takes.
    async fn publish_batch(&mut self, feed: &mut Feed) -> Result<(), Cause> {
        let due = match &mut self.pace {
            Some(pace) => pace.due().await,
            None => Batch::EVENTS_MAX,
        };
        // Only envelopes can name channels, and a batch for one channel takes none that do.
        let across_channels = self.format == FeedFormat::Ndjson;
        let mut batch = if across_channels { Batch::across() } else { Batch::to(&self.channel) };
        // The numbers of its events in the input.
        let mut numbers = Vec::new();
        let mut bytes_read = 0;
        // Events after a failed read are not part of this batch; the error comes after it.
        let mut failed = None;
        while batch.len() < due {
            let Some(record) = self.records.front() else {
                match feed.next_ready() {
                    Some(Ok(chunk)) => self.take(chunk),
                    Some(Err(error)) => {
                        failed = Some(error);
                        break;
                    }
                    None => break,
                };
                continue;
            };
            let envelope = record.envelope.clone().or_type(self.event_type.as_deref());
            let envelope =
                if across_channels { envelope.or_channel(&self.channel) } else { envelope };
            if batch.push(&envelope).is_err() {
                break;
            }
            bytes_read = record.bytes_read;
            numbers.push(record.number);
            self.records.pop_front();
        }
        if !batch.is_empty() {
            let events = batch.len() as u64;
            if let Some(pace) = &mut self.pace {
                pace.sent += events;
            }
            let accepted = self.publisher.publish_batch(batch).await;
            let accepted = accepted.map_err(|error| not_taken(error, self.format, &numbers))?;
            self.tally.add(events, accepted.last_id);
            self.bar.set_message(self.tally.events.get().to_string());
            self.bar.set_position(bytes_read);
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Names the part of the input that failed: the line that the hub's answer names, or all lines of
/// the batch, which are `numbers`.
fn not_taken(mut error: PublishError, format: FeedFormat, numbers: &[u64]) -> Cause {
    let unit = format.unit();
    let mut part = match numbers {
        [first, .., last] => format!("{unit}s {first} to {last}"),
        numbers => format!("{unit} {}", numbers.first().copied().unwrap_or_default()),
    };
    if let PublishError::Refused(problem) = &mut error {
        let index = problem.line.take().and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
        if let Some(number) = index.and_then(|index| numbers.get(index)) {
            part = format!("{unit} {number}");
        }
    }
    Cause::Publish(part, error.into())
}

/// When the next events are due.
#[derive(Debug)]
struct Pace {
    begun: Instant,
    rate: f64,
    sent: u64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { begun: Instant::now(), rate, sent: 0 }
    }

    /// Waits until at least one event is due, and returns how many are. After a slow answer all
    /// events that have become due form a larger batch, so that the mean rate holds.
    async fn due(&mut self) -> usize {
        let next_at = self.begun + Duration::from_secs_f64(self.sent as f64 / self.rate);
        tokio::time::sleep_until(next_at).await;
        let due = (self.begun.elapsed().as_secs_f64() * self.rate) as u64 + 1;
        usize::try_from(due.saturating_sub(self.sent)).unwrap_or(usize::MAX).max(1)
    }
}

/// From one event in about a day, to more than any hub takes.
fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.000_01..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number of events a second from 0.00001 to 10000000".to_owned()),
    }
}

/// The progress bar, on stderr and only if that is a terminal.
fn progress_bar(feed: &Feed) -> ProgressBar {
    let (bar, template) = match feed.bytes_total {
        Some(bytes) => {
            let template = "{msg} events {wide_bar} {bytes}/{total_bytes} {eta}";
            (ProgressBar::new(bytes), template)
        }
        None => (ProgressBar::new_spinner(), "{spinner} {msg} events in {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well-formed");
    if telemetry::prints_json() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.with_style(style).with_message("0")
}

fn reports_to(bar: ProgressBar) -> impl Fn(&Failure, Duration) + Send + Sync + 'static {
    move |failure, wait| {
        let (failure, wait) = (telemetry::with_causes(failure), wait.as_secs_f64());
        bar.suspend(|| say(&format!("{failure}; again in {wait:.1} s")));
    }
}

/// The time between two reports of the progress.
const REPORT_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use visnyk::client::Problem;

    #[tokio::test(start_paused = true)]
    async fn pace_gives_each_event_its_time_and_catches_up() {
        let mut pace = Pace::new(2.0);
        let begun = Instant::now();
        for expected_ms in [0, 500, 1_000] {
            assert_eq!(pace.due().await, 1);
            pace.sent += 1;
            assert_eq!(begun.elapsed().as_millis().next_multiple_of(500), expected_ms);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(pace.due().await, 4);
    }

    #[test]
    fn refused_line_of_a_batch_is_named_as_the_line_of_the_input() {
        let refused = |line| {
            let problem = Problem {
                status: "400".parse().expect("a status"),
                title: None,
                detail: None,
                field: None,
                line,
            };
            let (error, format) = (PublishError::Refused(problem), FeedFormat::Ndjson);
            not_taken(error, format, &[1001, 1003, 1004]).to_string()
        };
        assert_eq!(refused(Some(2)), "the hub did not take line 1003 of the input");
        for no_line in [None, Some(0), Some(4)] {
            assert_eq!(refused(no_line), "the hub did not take lines 1001 to 1004 of the input");
        }
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for bad in ["0", "-1", "nan", "inf", "x", "", "1e9"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_rate("0.5"), Ok(0.5));
    }
}
