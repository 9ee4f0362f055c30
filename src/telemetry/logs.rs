//! The log: tracing events as lines of text or JSON on stderr, written by a thread of their own.
//!
//! The line that people and scripts wait for at the start (`listening on …`) is not part of the
//! log: it is printed at any log level, as text or as JSON like all other lines.
//!
//! Other crates are logged at most at `info`, whatever the filter says: more verbose lines show
//! what clients sent. h2 logs a `:path` that it refuses unchanged, and there may be a token in it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::util::TryInitError;

use super::{
    log_filter::LogFilterError,
    log_level,
    log_queue::{self, LogQueue},
};
use crate::model::rfc3339_millis;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// For people, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl LogFormat {
    /// The formats as they are written in settings.
    pub const WORDS: &[&str] = &["text", "json"];
}

/// Sends the process's tracing events to stderr, and its panics as such events. Once per process.
///
/// A thread of its own writes them, and nothing else waits for stderr: see
/// [`flush_logs`](super::flush_logs). Past `queue_bytes_max` bytes that wait for it, lines are
/// dropped and counted.
///
/// # Errors
/// `level` cannot be parsed as a [`LogFilter`](super::LogFilter), the thread that writes cannot be
/// started, or the process has initialized its logs before.
pub fn init(format: LogFormat, level: &str, queue_bytes_max: u32) -> Result<(), LogsError> {
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::prelude::*;

    let (filter, can_change) = log_level::layer(level.parse()?).map_err(LogsError::Parse)?;
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(is_harmless));
    let queue = log_queue::start(queue_bytes_max as usize).map_err(LogsError::Thread)?;
    let writer = move || ToQueue(queue);
    match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = layer().with_writer(writer).with_ansi(ansi);
            registry.with(lines).try_init()?;
        }
        LogFormat::Json => {
            let lines = layer().with_writer(writer).json().flatten_event(true);
            registry.with(lines).try_init()?;
        }
    }
    can_change();
    print_as(format);
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Has lines printed in this format from now on. [`init`] does so too.
pub fn print_as(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// Whether lines are printed as JSON.
pub fn prints_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Prints a message of a command: after the name of the program, or as JSON.
pub fn print_named(words: &str) {
    print_at(Level::INFO, &if prints_json() { format!("{words}\n") } else { named(words) });
}

/// Prints why a command failed, with the causes, the outermost first, and a hint.
pub fn print_failure(words: &str, causes: &[String], hint: Option<&str>) {
    if prints_json() {
        return log_queue::print(&object(Level::ERROR, words, causes, hint));
    }
    let because = causes.iter().map(|cause| format!("  because: {cause}\n"));
    let hint = hint.map(|hint| format!("  hint: {hint}\n"));
    log_queue::print(&because.chain(hint).fold(named(words), |text, line| text + &line));
}

/// Puts the name of the program before each line.
fn named(words: &str) -> String {
    words.lines().map(|line| format!("visnyk: {line}\n")).collect()
}

/// Prints lines to stderr at any log level, in the format of the log.
pub fn print(lines: &str) {
    print_at(Level::INFO, lines);
}

/// As [`print`](fn@print), for errors.
pub fn print_error(lines: &str) {
    print_at(Level::ERROR, lines);
}

fn print_at(level: Level, lines: &str) {
    if !prints_json() {
        return log_queue::print(lines);
    }
    let objects: String = lines.lines().map(|message| object(level, message, &[], None)).collect();
    log_queue::print(&objects);
}

/// A line as the JSON layer of the log writes it.
fn object(level: Level, message: &str, causes: &[String], hint: Option<&str>) -> String {
    let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let timestamp = rfc3339_millis(time_ms as u64);
    let mut object = json!({
        "timestamp": timestamp, "level": level.as_str(), "message": message, "target": OWN,
    });
    if !causes.is_empty() {
        object["causes"] = causes.into();
    }
    if let Some(hint) = hint {
        object["hint"] = hint.into();
    }
    format!("{object}\n")
}

/// Whether lines are printed as JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// What the layer writes, a whole line at a time.
struct ToQueue(&'static LogQueue);

impl Write for ToQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Replaces the standard library's hook, which writes to stderr itself and waits for it.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let current = thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let words = panic.to_string().replace('\n', " ");
    if !tracing::enabled!(Level::ERROR) {
        // A panic is printed at any log level.
        return print_error(&format!("thread {thread}: {words}\n"));
    }
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, %backtrace, "{words}"),
        _ => tracing::error!(thread, "{words}"),
    }
    if thread == "main" {
        // Unwinding ends the process; no connection waits for this thread.
        log_queue::flush();
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// The filter is refused.
    #[error("the log level is refused")]
    Filter(#[from] LogFilterError),
    /// The parser of the subscriber refuses a filter that ours accepted.
    #[error("the log level is refused")]
    Parse(#[source] ParseError),
    /// The thread that writes the log cannot be started.
    #[error("no thread can be started to write the log")]
    Thread(#[source] io::Error),
    /// Another subscriber receives the process's tracing events.
    #[error("the process logs already")]
    Taken(#[from] TryInitError),
}

/// Whether log lines of this target and level are known to contain nothing confidential of a
/// client. Lines of the hub's own code are; a crate that is not named here may log anything.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let crate_name = metadata.target().split("::").next();
    crate_name == Some(OWN) || *metadata.level() <= Level::INFO
}

/// The crate that takes care of what it logs.
const OWN: &str = env!("CARGO_CRATE_NAME");
