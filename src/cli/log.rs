//! `visnyk log`: inspects a log on disk while no hub uses it, exports its events, and makes it
//! usable again.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use visnyk::{
    disk::{Damage, DataDir, LocalDirectory, OpenError, Recovered, RecoveredEvent, Recovery},
    model::{Epoch, EventKind, Position, rfc3339_millis},
    telemetry,
};

use super::{CliError, output::print};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk log verify --data-dir /var/lib/visnyk
  visnyk log export --data-dir /var/lib/visnyk > events.ndjson")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows the segments of a log, and what is in them.
    Inspect(Inspect),
    /// Reads everything, and says what is wrong where. Exits 1 if anything is.
    Verify(Directory),
    /// Prints the events as NDJSON, which `visnyk publish --ndjson` takes.
    Export(Directory),
    /// Makes a copy of a log, or one that was moved or restored, a log of its own: in a new epoch,
    /// so that positions of the original mean nothing in it.
    Import(Directory),
    /// Cuts a damaged log off before the damage, and begins a new epoch.
    Repair(Repair),
}

#[derive(Debug, clap::Args)]
struct Directory {
    /// Directory of the log.
    #[arg(long, env = "VISNYK_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Inspect {
    #[command(flatten)]
    directory: Directory,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Repair {
    #[command(flatten)]
    directory: Directory,
    /// Agrees that the events behind the damage are lost. Without it nothing is changed.
    #[arg(long)]
    lose: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let mut out = Vec::new();
    let result = match args.command {
        Command::Inspect(args) => inspect(&args, &mut out),
        Command::Verify(args) => verify(&args.data_dir, &mut out),
        Command::Export(args) => return export(&args.data_dir),
        Command::Import(args) => import(&args.data_dir, &mut out),
        Command::Repair(args) => repair(&args, &mut out),
    };
    print(&out)?;
    result
}

fn inspect(args: &Inspect, out: &mut Vec<u8>) -> Result<(), CliError> {
    let path = &args.directory.data_dir;
    let (recovery, _, found) = examine(path)?;
    let bar = progress();
    let mut events = 0_u64;
    let contents = recovery
        .read(|item| {
            events += u64::from(matches!(item, Recovered::Event(_)));
            bar.set_position(events);
        })
        .map_err(|error| failed(path, error))?;
    bar.finish_and_clear();
    let position = |seq| Position { epoch: recovery.epoch(), seq }.to_string();
    if args.json {
        let segments: Vec<Value> = contents
            .segments
            .iter()
            .map(|segment| {
                json!({
                    "first_id": position(segment.base), "last_id": position(segment.last),
                    "bytes": segment.bytes, "torn_bytes": segment.torn_bytes,
                    "newest": rfc3339_millis(segment.newest_ms),
                })
            })
            .collect();
        let document = json!({
            "events": events, "last_id": position(contents.last_event),
            "was_closed": contents.was_closed, "segments": segments,
            "channels_with_removed_events": recovery.removed().lost().count(),
            "closed_channels_removed": recovery.removed().closed().count(),
            "idempotency_keys_removed": recovery.removed().keys().count(),
        });
        return writeln!(out, "{document:#}").map_err(CliError::failed);
    }
    let mut text = format!(
        "{events} events, the last one is {}; {}\n",
        position(contents.last_event),
        if contents.was_closed { "closed" } else { "not closed: the hub was killed" }
    );
    text += &format!("{:>20} {:>20} {:>12} {:>10}  newest\n", "from", "to", "bytes", "torn");
    for segment in &contents.segments {
        text += &format!(
            "{:>20} {:>20} {:>12} {:>10}  {}\n",
            segment.base.0,
            segment.last.0,
            segment.bytes,
            segment.torn_bytes,
            rfc3339_millis(segment.newest_ms)
        );
    }
    for error in found {
        text += &format!("{error}\n");
    }
    out.write_all(text.as_bytes()).map_err(CliError::failed)
}

fn verify(path: &Path, out: &mut Vec<u8>) -> Result<(), CliError> {
    let (recovery, _, found) = examine(path)?;
    let damage = recovery.verify(found);
    report(path, &damage, out)
}

fn report(path: &Path, damage: &Damage, out: &mut Vec<u8>) -> Result<(), CliError> {
    let contents = damage.contents();
    let torn: u64 = contents.segments.iter().map(|segment| segment.torn_bytes).sum();
    if torn > 0 {
        let line = "bytes of an unfinished write at the end, which the next start cuts off";
        writeln!(out, "{torn} {line}").map_err(CliError::failed)?;
    }
    if damage.found.is_empty() {
        let (segments, last) = (contents.segments.len(), contents.last_event.0);
        return writeln!(out, "whole: {segments} segments, the last event is {last}")
            .map_err(CliError::failed);
    }
    for error in &damage.found {
        writeln!(out, "{error}").map_err(CliError::failed)?;
    }
    let last = damage.last_event.0;
    let words = format!("{}: damaged; the last event before it is {last}", path.display());
    Err(CliError::failed(words))
}

fn export(path: &Path) -> Result<(), CliError> {
    let (recovery, _, _) = examine(path)?;
    let bar = progress();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut result = Ok(());
    let mut events = 0_u64;
    let read = recovery.read(|item| {
        if let Recovered::Event(event) = item
            && result.is_ok()
            && event.kind == EventKind::Published
        {
            events += 1;
            bar.set_position(events);
            result = serde_json::to_writer(&mut out, &envelope(event, recovery.epoch()))
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"));
        }
    });
    bar.finish_and_clear();
    let result = result.and_then(|()| out.flush());
    read.map_err(|error| failed(path, error))?;
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(CliError::failed),
    }
}

/// A line of a batch of publishes for an event.
fn envelope(event: RecoveredEvent, epoch: Epoch) -> Value {
    let frame = event.draft.finish(Position { epoch, seq: event.seq });
    let mut members = Map::new();
    members.insert("channel".into(), event.channel.as_str().into());
    if let Some(event_type) = frame.event_type() {
        members.insert("type".into(), event_type.into());
    }
    if let Some(retry) = frame.retry_ms() {
        members.insert("retry".into(), retry.into());
    }
    members.insert("data".into(), frame.data().into_owned().into());
    Value::Object(members)
}

fn import(path: &Path, out: &mut Vec<u8>) -> Result<(), CliError> {
    let (recovery, identity, found) = examine(path)?;
    let damage = recovery.verify(found);
    if !damage.found.is_empty() {
        return report(path, &damage, out);
    }
    recovery.import(identity, new_epoch()).map_err(|error| failed(path, error))?;
    let last = damage.last_event.0;
    writeln!(out, "a log of its own, in a new epoch; the last event is {last}")
        .map_err(CliError::failed)
}

fn repair(args: &Repair, out: &mut Vec<u8>) -> Result<(), CliError> {
    let path = &args.directory.data_dir;
    let (recovery, identity, found) = examine(path)?;
    let damage = recovery.verify(found);
    if damage.found.is_empty() || !args.lose {
        let result = report(path, &damage, out);
        if !damage.found.is_empty() {
            writeln!(out, "nothing was changed; --lose drops what is behind the damage")
                .map_err(CliError::failed)?;
        }
        return result;
    }
    recovery.repair(&damage, identity, new_epoch()).map_err(|error| failed(path, error))?;
    let last = damage.last_event.0;
    writeln!(out, "repaired: the last event is {last}; what was behind it is lost, in a new epoch")
        .map_err(CliError::failed)
}

/// The log, the identity of its directory, and the damage found so far.
fn examine(path: &Path) -> Result<(Recovery<LocalDirectory>, u64, Vec<OpenError>), CliError> {
    let directory = DataDir::open_existing(path).map_err(|error| failed(path, error))?;
    let identity = directory.identity();
    let examined = Recovery::examine(directory.into_directory());
    let (recovery, found) = examined.map_err(|error| failed(path, error))?;
    Ok((recovery, identity, found))
}

fn failed(path: &Path, error: OpenError) -> CliError {
    CliError::failed(format!("{}: {error}", path.display()))
}

fn new_epoch() -> Epoch {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Epoch::new(now.as_millis() as u64, fastrand::u16(..))
}

/// Counts events on a terminal.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() || telemetry::prints_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        indicatif::ProgressStyle::with_template("{spinner} {human_pos} events {per_sec}")
            .expect("a good template"),
    );
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
