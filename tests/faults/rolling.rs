//! A rolling restart: one hub after the other ends, behind a balancer, and is started again.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, DRAIN_DELAY_S, DRAIN_WINDOW_S, PATIENCE};
use crate::record::{Line, Record};

/// Restarts each hub. Reports an end that is not clean, a drain that begins before `/readyz` said
/// so, and streams that end all at once.
pub(crate) async fn restart_each(bed: &mut Bed) {
    for number in 0..bed.hubs.len() {
        let ends = format!("hub {number} is to end");
        let (is_unready, is_over) =
            (format!("hub {number} is not ready"), format!("hub {number} has ended"));
        bed.note(&ends);
        bed.hubs[number].signal(Signal::TERM);
        await_readiness(bed, number, false).await;
        bed.note(&is_unready);
        let code = bed.hubs[number].ended().await;
        bed.note(&is_over);
        if code != Some(0) {
            bed.recorder.note(Record::Odd { what: format!("hub {number} ends with {code:?}") });
        }
        // The last ones connect.
        sleep(Duration::from_millis(700)).await;
        let recorder = bed.recorder.clone();
        let found = recorder.with_lines(|lines| judge(lines, [&ends, &is_unready, &is_over]));
        found.into_iter().for_each(|what| recorder.note(Record::Odd { what }));
        bed.hubs[number].start_again(&recorder).await;
        await_readiness(bed, number, true).await;
        // Until the balancer tries it again.
        sleep(Duration::from_secs(1)).await;
    }
}

async fn await_readiness(bed: &Bed, number: usize, wanted: bool) {
    let deadline = Instant::now() + PATIENCE;
    while bed.hubs[number].is_ready().await != wanted {
        assert!(Instant::now() < deadline, "/readyz of hub {number} does not become {wanted}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// How the streams of one hub ended while it drained.
fn judge(lines: &[Line], [ends, is_unready, is_over]: [&str; 3]) -> Vec<String> {
    let at = |wanted: &str| {
        let is = |line: &&Line| matches!(&line.record, Record::Fault { what } if what == wanted);
        lines.iter().rev().find(is).map_or(0, |line| line.at_us)
    };
    let (ends_us, unready_us, over_us) = (at(ends), at(is_unready), at(is_over));
    // Of each stream that there was, its end; one that comes back to a hub that drains ends at
    // once.
    let mut ended = BTreeSet::new();
    let mut closed = Vec::new();
    for Line { at_us, record } in lines.iter().filter(|line| line.at_us > ends_us) {
        if let Record::Closed { who, by, .. } = record
            && by == "Stream"
            && ended.insert(who)
        {
            closed.push(*at_us);
        }
    }
    let mut found = Vec::new();
    if closed.iter().any(|&closed_us| closed_us < unready_us) {
        found.push(format!("{ends}: a stream was ended before /readyz was 503"));
    }
    let window_us = DRAIN_WINDOW_S * 1_000_000;
    let begin_us = ends_us + DRAIN_DELAY_S * 1_000_000;
    let mut histogram = [0; BINS];
    for &closed_us in &closed {
        let bin = closed_us.saturating_sub(begin_us) * BINS as u64 / window_us;
        histogram[(bin as usize).min(BINS - 1)] += 1;
    }
    let took_ms = (over_us - ends_us) / 1_000;
    println!(
        "        {ends}: it took {took_ms} ms; streams ended, by sixths of the window: {histogram:?}"
    );
    let (all, most) = (closed.len(), histogram.into_iter().max().unwrap_or_default());
    if all < STREAMS_MIN {
        found.push(format!("{ends}: only {all} streams ended"));
    }
    // On a busy machine a hub may have no processor for a sixth of the window, and catches up in
    // the next one.
    if most * 2 > all || histogram.iter().filter(|count| **count > 0).count() < BINS / 2 {
        found.push(format!("{ends}: streams ended at once: {histogram:?}"));
    }
    found
}

const BINS: usize = 6;
/// Of those that subscribe for this, each hub has about a half.
const STREAMS_MIN: usize = 50;
