//! Bounds on spans: a second, waiting, and of one publish.

use super::{
    collector::{Behaviour, Collector},
    hub_with, publish, sampled,
};
use crate::support::ndjson;

#[tokio::test]
async fn no_more_spans_a_second_are_exported_than_the_settings_allow() {
    let collector = Collector::start(Behaviour::Takes).await;
    // A publish has six spans without a subscriber.
    let hub = hub_with(&collector, &[("traces.spans_per_s_max", "4")]).await;
    publish(&hub, &[("traceparent", &sampled())]).await;
    let dropped = "visnyk_trace_spans_dropped_total{reason=\"rate\"}";
    hub.wait_for_metric(dropped, |count| count >= 1.0).await;
    let sent = |collector: &Collector| collector.spans().len() as f64;
    let exported = hub.wait_for_metric("visnyk_trace_spans_exported_total", |n| n > 0.0).await;
    assert!(exported <= 6.0 && exported <= sent(&collector), "{exported}");
}

#[tokio::test]
async fn a_publish_across_many_channels_has_a_bounded_number_of_spans() {
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[("shards", "1")]).await;
    let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let mut streams = Vec::new();
    for name in &names {
        streams.push(hub.stream(&format!("channel={name}"), "now").await);
    }
    let lines = ndjson(names.iter().map(|name| (Some(&**name), "x")));
    let parent = sampled();
    let fields = [("traceparent", &*parent), ("Content-Type", "application/x-ndjson")];
    let answer = hub.request("POST", "/v1/events", &fields, &lines).await;
    assert_eq!(answer.status(), 201, "{}", answer.body);
    let spans = collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
    let fan_out = spans.iter().find(|span| span.name == "fan_out").expect("it is there");
    assert_eq!(fan_out.attributes["visnyk.connections"], 100);
    assert_eq!(fan_out.attributes["visnyk.rounds"], 100);
    assert_eq!(spans.iter().filter(|span| span.name == "round").count(), 32);
    let publish = spans.iter().find(|span| span.name == "publish").expect("it is there");
    assert_eq!(publish.attributes["messaging.batch.message_count"], 100);
    assert_eq!(publish.attributes.get("messaging.destination.name"), None);
}
