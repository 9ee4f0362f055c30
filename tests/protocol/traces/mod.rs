//! Traces of publishes, as a collector of OTLP/HTTP gets them from the real binary.

mod bounds;
mod cancelled;
mod collector;
mod command_line;
mod failures;
mod sampling;
mod settings;
mod tree;

use collector::{Collector, SpanSeen};

use crate::support::TestHub;

/// A client's trace and its span.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// `traceparent` of that, sampled.
fn sampled() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

/// A hub that exports to this collector and traces by itself nothing, with further settings.
async fn hub_with(collector: &Collector, settings: &[(&str, &str)]) -> TestHub {
    let url = collector.url();
    let common = [("traces.endpoint", &*url), ("traces.sampled_per_million", "0"), ("shards", "2")];
    // What is given counts.
    let is_other = |(key, _): &(&str, &str)| settings.iter().all(|(given, _)| given != key);
    let common: Vec<_> = common.into_iter().filter(is_other).collect();
    TestHub::start(&[&common, settings].concat()).await
}

/// Publishes to the channel `a` with these fields.
async fn publish(hub: &TestHub, fields: &[(&str, &str)]) {
    let answer = hub.request("POST", "/v1/channels/a/events", fields, "x").await;
    assert_eq!(answer.status(), 201, "{}", answer.body);
}

/// The only span of that name.
fn only<'a>(spans: &'a [SpanSeen], name: &str) -> &'a SpanSeen {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no `{name}` in {spans:#?}"));
    assert!(found.next().is_none(), "`{name}` is there twice: {spans:#?}");
    span
}
