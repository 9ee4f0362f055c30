//! Which publishes are traced, and where the id of a trace is shown.

use serde_json::Value;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::HubCommand;

use super::{
    PARENT, TRACE,
    collector::{Behaviour, Collector},
    hub_with, publish, sampled,
};
use crate::support::{PATIENCE, TestHub};

const ALL: (&str, &str) = ("traces.sampled_per_million", "1000000");

#[tokio::test]
async fn a_publish_that_is_not_sampled_has_no_span() {
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[]).await;
    publish(&hub, &[]).await;
    publish(&hub, &[("traceparent", &sampled().replace("-01", "-00"))]).await;
    for garbage in ["garbage", "", &sampled().to_uppercase(), &format!("{}-", sampled())] {
        publish(&hub, &[("traceparent", garbage)]).await;
    }
    // Only publishes are traced.
    let parent = sampled();
    for target in ["/healthz", "/v1/channels", "/v1/poll?channel=a&timeout=0"] {
        hub.request("GET", target, &[("traceparent", &parent)], "").await;
    }
    publish(&hub, &[("traceparent", &parent), ("tracestate", "not a state")]).await;
    let spans = collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
    assert!(spans.iter().all(|span| span.trace == TRACE && span.state.is_none()), "{spans:#?}");
    assert_eq!(hub.metric("visnyk_traces_total").await, 1.0);
}

#[tokio::test]
async fn a_clients_flag_decides_before_the_hubs_share() {
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[ALL]).await;
    publish(&hub, &[("traceparent", &sampled().replace("-01", "-00"))]).await;
    assert_eq!(hub.metric("visnyk_traces_total").await, 0.0);
    // What is malformed is as if it were not there: the trace begins here.
    publish(&hub, &[("traceparent", &sampled().to_uppercase())]).await;
    let spans = collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
    assert!(spans.iter().all(|span| span.trace != TRACE), "{spans:#?}");
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_none()).collect();
    assert!(roots.len() == 1 && roots[0].flags == 0x101, "{roots:#?}");
}

#[tokio::test]
async fn a_hub_can_decide_for_itself_and_stays_in_the_clients_trace() {
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[("traces.follows_parent", "false")]).await;
    publish(&hub, &[("traceparent", &sampled())]).await;
    assert_eq!(hub.metric("visnyk_traces_total").await, 0.0);
    let hub = hub_with(&collector, &[("traces.follows_parent", "false"), ALL]).await;
    publish(&hub, &[("traceparent", &sampled().replace("-01", "-00"))]).await;
    let spans = collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    assert!(spans.iter().any(|span| span.parent.as_deref() == Some(PARENT)), "{spans:#?}");
}

#[tokio::test]
async fn log_lines_and_problem_documents_name_a_sampled_trace() {
    let collector = Collector::start(Behaviour::Takes).await;
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .directory(env!("CARGO_TARGET_TMPDIR"))
        .settings(&[("traces.endpoint", &collector.url()), ("traces.sampled_per_million", "0")])
        .args(["--log-format", "json", "--access-log"]);
    let hub = TestHub::start_with(command).await;
    let parent = sampled();
    for (target, status) in [("/v1/channels//events", 400), ("/v1/channels/a/events", 201)] {
        let fields = [("traceparent", &*parent), ("X-Request-Id", target)];
        let answer = hub.request("POST", target, &fields, "x").await;
        assert_eq!(answer.status(), status);
        if status == 400 {
            assert_eq!(answer.json()["trace_id"], TRACE, "{}", answer.body);
        }
    }
    let unsampled = hub.request("POST", "/v1/channels//events", &[], "x").await;
    assert_eq!(unsampled.json().get("trace_id"), None, "{}", unsampled.body);
    let poll = [("traceparent", &*parent), ("X-Request-Id", "poll")];
    hub.request("GET", "/v1/poll?channel=a&timeout=0", &poll, "").await;
    for id in ["/v1/channels//events", "/v1/channels/a/events", "poll"] {
        let deadline = Instant::now() + PATIENCE;
        let line: Value = loop {
            let lines = hub.stderr();
            let mut parsed = lines.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            if let Some(line) = parsed.find(|line: &Value| line["request_id"] == id) {
                break line;
            }
            assert!(Instant::now() < deadline, "no line of {id}: {lines}");
            sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
}
