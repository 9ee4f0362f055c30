//! The native API and the quickstart routes, as docs/api.md describes them, against the real
//! binary.
mod bad_input;
mod batches;
mod channels;
mod closing;
mod connections;
mod cors;
mod idempotency;
mod last;
mod operations;
mod origins;
mod polls;
mod publishing;
mod quickstart;
mod refusals;
mod routes;
mod streams;
use crate::wire;

use serde_json::{Value, json};
use visnyk_loadtest::Hub;
use wire::{Answer, ask, get, request};

const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");

/// A batch to a target.
fn batch(target: &str, lines: &str) -> String {
    request("POST", target, &[NDJSON], lines)
}

/// The data of every event that is retained of `channels` (as in a query), in log order.
async fn retained(hub: &Hub, channels: &str) -> Vec<(String, String)> {
    let target = format!("/v1/poll?channel={channels}&last_event_id=earliest&timeout=0&limit=1000");
    let answer = ask(hub, get(&target)).await;
    match answer.status {
        204 => Vec::new(),
        _ => pairs(&answer),
    }
}

/// Channel and data of the events of an answer to a poll.
fn pairs(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events = answer.json()["events"].as_array().unwrap().clone();
    events.iter().map(|event| (text(&event["channel"]), text(&event["data"]))).collect()
}

/// The data of the events of an answer to a poll.
fn data(answer: &Answer) -> Vec<String> {
    pairs(answer).into_iter().map(|(_, data)| data).collect()
}

/// The value of a field of a block.
fn field<'a>(block: &'a str, name: &str) -> &'a str {
    let mut lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    lines.next().unwrap_or_else(|| panic!("no {name} in {block:?}"))
}

/// The data of a block, as JSON.
fn data_json(block: &str) -> Value {
    serde_json::from_str(field(block, "data")).unwrap()
}

/// Whether this is a time as the API writes it.
fn is_time(value: &Value) -> bool {
    let digits: String = value
        .as_str()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    json!(digits) == "9999-99-99T99:99:99.999Z"
}
