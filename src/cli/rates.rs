//! Rates between two looks at a hub.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::human;

/// The figures of one look.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    at: Instant,
    uptime_ms: u64,
    events: u64,
    bytes: u64,
    deliveries: u64,
    opened: u64,
    streams: u64,
    polls: u64,
    channels: u64,
    resident_bytes: Option<u64>,
}

/// A look, and what happened a second since the one before.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    look: Look,
    events: f64,
    bytes: f64,
    deliveries: f64,
    opened: f64,
}

impl Look {
    pub(crate) fn of(status: &Value, at: Instant) -> Self {
        let figure = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64);
        let count = |pointer: &str| figure(pointer).unwrap_or_default();
        Self {
            at,
            uptime_ms: count("/uptime_ms"),
            events: count("/since_start/events_published"),
            bytes: count("/since_start/bytes_published"),
            deliveries: count("/since_start/deliveries"),
            opened: count("/since_start/connections_opened"),
            streams: count("/connections/streams"),
            polls: count("/connections/polls"),
            channels: count("/channels/open"),
            resident_bytes: figure("/memory/resident_bytes"),
        }
    }
}

impl Rates {
    /// The headings of [`to_line`](Self::to_line), with a line feed.
    pub(crate) const HEADINGS: &'static str = "uptime_ms\tevents_per_s\tbytes_per_s\tdeliveries_per_s\t\
         opened_per_s\tstreams\tpolls\tchannels\tresident_bytes\n";

    /// The rates between the last look and this one; at the first look, and at the first after a
    /// restart of the hub, those since its start.
    pub(crate) fn next(last: Option<&Self>, look: Look) -> Self {
        let last = last.map(|last| &last.look).filter(|last| last.uptime_ms <= look.uptime_ms);
        let elapsed = match last {
            Some(last) => look.at.saturating_duration_since(last.at),
            None => Duration::from_millis(look.uptime_ms),
        };
        let seconds = elapsed.as_secs_f64().max(0.001);
        let rate = |figure: fn(&Look) -> u64| {
            let before = last.map_or(0, figure);
            figure(&look).saturating_sub(before) as f64 / seconds
        };
        let (events, bytes) = (rate(|look| look.events), rate(|look| look.bytes));
        let (deliveries, opened) = (rate(|look| look.deliveries), rate(|look| look.opened));
        Self { look, events, bytes, deliveries, opened }
    }

    /// A line for programs.
    pub(crate) fn to_line(&self) -> String {
        let Look { uptime_ms, streams, polls, channels, resident_bytes, .. } = &self.look;
        let resident = resident_bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
        format!(
            "{uptime_ms}\t{:.1}\t{:.0}\t{:.1}\t{:.1}\t{streams}\t{polls}\t{channels}\t{resident}",
            self.events, self.bytes, self.deliveries, self.opened
        )
    }

    /// How long the hub has run.
    pub(crate) fn uptime(&self) -> String {
        human::age(Duration::from_millis(self.look.uptime_ms))
    }
}

/// The figures for people, a few a line.
pub(crate) fn summary_line(rates: &Rates, status: &Value) -> [String; 3] {
    let figure =
        |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let (count, bytes) = (|at| human::count(figure(at)), |at| human::bytes(figure(at)));
    let resident = rates.look.resident_bytes.map_or("unknown".to_owned(), human::bytes);
    [
        format!(
            "events {}/s  {}/s  deliveries {}/s  opened {}/s",
            human::rate(rates.events),
            human::bytes(rates.bytes as u64),
            human::rate(rates.deliveries),
            human::rate(rates.opened)
        ),
        format!(
            "streams {}  polls {}  of {}  channels {}  throttled {}",
            count("/connections/streams"),
            count("/connections/polls"),
            count("/connections/max"),
            count("/channels/open"),
            count("/channels/throttled")
        ),
        format!(
            "memory {resident}  retained {} of {}  unsent {}",
            bytes("/memory/history_bytes"),
            bytes("/memory/history_bytes_max"),
            bytes("/memory/unsent_bytes")
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(at: Instant, uptime_ms: u64, events: u64) -> Look {
        let status = json!({
            "uptime_ms": uptime_ms,
            "since_start": {"events_published": events, "deliveries": 10 * events},
            "connections": {"streams": 3},
        });
        Look::of(&status, at)
    }

    #[test]
    fn rates_are_between_looks_and_since_the_start_of_a_hub_that_is_new() {
        let start = Instant::now();
        let first = Rates::next(None, look(start, 10_000, 50));
        assert_eq!((first.events, first.deliveries), (5.0, 50.0));
        let second = Rates::next(Some(&first), look(start + Duration::from_secs(2), 12_000, 150));
        assert_eq!((second.events, second.deliveries), (50.0, 500.0));
        assert_eq!(second.to_line(), "12000\t50.0\t0\t500.0\t0.0\t3\t0\t0\t");
        let restarted = Rates::next(Some(&second), look(start + Duration::from_secs(4), 1_000, 7));
        assert_eq!(restarted.events, 7.0);
    }
}
