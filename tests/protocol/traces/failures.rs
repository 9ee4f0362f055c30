//! A collector that is away, slow or busy: it delays nothing but exports.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    collector::{Behaviour, Collector, spans_of},
    hub_with, publish, sampled,
};
use crate::support::PATIENCE;

#[tokio::test]
async fn spans_that_a_busy_collector_refuses_come_again_when_it_says_and_once() {
    for status in [429, 503] {
        let collector = Collector::start(Behaviour::Refuses(status, Some("2"))).await;
        let mut hub = hub_with(&collector, &[]).await;
        publish(&hub, &[("traceparent", &sampled())]).await;
        collector.wait_for_requests(1).await;
        collector.behave(Behaviour::Takes);
        let spans = collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
        let requests = collector.requests();
        assert!(requests[1].at - requests[0].at >= Duration::from_secs(2), "{status}");
        assert_eq!(requests[0].body, requests[1].body);
        let mut ids: Vec<_> = spans.iter().map(|span| &span.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), spans.len(), "none comes twice");
        hub.wait_for_metric("visnyk_trace_spans_exported_total", |n| n == spans.len() as f64).await;
        assert_eq!(hub.metric("visnyk_trace_exports_failed_total").await, 1.0);
        let says = "spans cannot be exported for now";
        hub.wait_for_line(says, PATIENCE).await.expect("the log says it");
    }
}

#[tokio::test]
async fn spans_that_a_collector_does_not_take_are_dropped() {
    let rejected = "visnyk_trace_spans_dropped_total{reason=\"rejected\"}";
    let collector = Collector::start(Behaviour::Refuses(400, None)).await;
    let hub = hub_with(&collector, &[]).await;
    publish(&hub, &[("traceparent", &sampled())]).await;
    collector.wait_for_requests(1).await;
    let sent = spans_of(&collector.requests()[0].body).len() as f64;
    hub.wait_for_metric(rejected, |count| count >= sent).await;
    // A part of them.
    let mut hub = hub_with(&collector, &[]).await;
    let (before, refused) = (collector.requests().len(), 2.0);
    collector.behave(Behaviour::Rejects(2));
    publish(&hub, &[("traceparent", &sampled())]).await;
    collector.wait_for_requests(before + 1).await;
    hub.wait_for_metric(rejected, |count| count >= refused).await;
    hub.wait_for_line("too old", PATIENCE).await.expect("the log says why");
}

#[tokio::test]
async fn nothing_waits_for_a_collector_that_stalls_or_is_away() {
    let collector = Collector::start(Behaviour::Stalls).await;
    let away = "http://127.0.0.1:9/v1/traces";
    for endpoint in [&*collector.url(), away] {
        let settings = [
            ("traces.endpoint", endpoint),
            ("traces.queue_spans_max", "40"),
            ("traces.export_timeout_ms", "600000"),
            ("traces.flush_ms", "300"),
        ];
        let mut hub = hub_with(&collector, &settings).await;
        let mut stream = hub.stream("channel=a", "now").await;
        for n in 0..100 {
            publish(&hub, &[("traceparent", &sampled())]).await;
            let block = stream.next_event(PATIENCE).await.expect("an event").expect("no end");
            assert_eq!(block.data.as_deref(), Some("x"), "event {n}");
        }
        let over = hub.metric("visnyk_traces_over_limit_total").await;
        let begun = hub.metric("visnyk_traces_total").await;
        assert!(over > 0.0 && begun + over == 100.0, "{begun} + {over}");
        assert!(hub.metric("visnyk_trace_spans_waiting").await <= 40.0);
        let began = Instant::now();
        hub.terminate().expect("it runs");
        hub.wait(PATIENCE).await.expect("it ends");
        assert!(began.elapsed() < PATIENCE);
        let lines = hub.stderr();
        assert!(lines.contains("did not take all spans before the end"), "{lines}");
    }
}

#[tokio::test]
async fn spans_that_wait_are_exported_before_the_hub_ends() {
    let collector = Collector::start(Behaviour::Refuses(503, Some("600"))).await;
    let mut hub = hub_with(&collector, &[("traces.flush_ms", "20000")]).await;
    publish(&hub, &[("traceparent", &sampled())]).await;
    // The batch waits for half a minute, and what comes behind it waits for it.
    collector.wait_for_requests(1).await;
    publish(&hub, &[("traceparent", &sampled())]).await;
    collector.behave(Behaviour::Takes);
    hub.terminate().expect("it runs");
    hub.wait(PATIENCE).await.expect("it ends");
    let ends = collector.spans().iter().filter(|span| span.name == "fan_out").count();
    assert_eq!(ends, 2, "{:#?}", collector.spans());
}
