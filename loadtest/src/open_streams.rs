//! What a server says of itself: its metrics, and how many streams are open.

use std::time::Duration;

use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::subject::Subject;

/// Fails if fewer streams than these are open, as far as the server says how many are: clients that
/// do not read do not notice that they were ended, and what was ended has no cost.
pub(crate) fn check_open(subject: &Subject, expected: usize) -> Result<(), Failure> {
    let Some((path, metric)) = subject.extras.streams_metric else { return Ok(()) };
    let text = metrics(subject, path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    let open = line.and_then(|number| number.trim().parse::<usize>().ok()).ok_or_else(|| {
        Failure::Refused { request: format!("GET {path}"), answer: format!("no {metric}") }
    })?;
    if open < expected { Err(Failure::Ended { expected, open }) } else { Ok(()) }
}

/// The metrics of a server, as it writes them.
pub(crate) fn metrics(subject: &Subject, path: &str) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("starting a runtime"))?;
    let mut exchange = Exchange::new(subject.address);
    let answer = runtime
        .block_on(exchange.request("GET", path, &[], b"", PATIENCE))
        .map_err(Failure::io("asking for metrics"))?;
    Ok(answer.body)
}

const PATIENCE: Duration = Duration::from_secs(20);
