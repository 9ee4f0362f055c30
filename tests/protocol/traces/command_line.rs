//! `visnyk publish` in the trace of the shell that runs it.

use tokio::process::Command;

use super::{
    PARENT, TRACE,
    collector::{Behaviour, Collector},
    hub_with, sampled,
};
use crate::support::TestHub;

/// Publishes with these arguments and variables, and gives what was said on stderr.
async fn publish(hub: &TestHub, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .args(["publish", "a", "x", "--url", &format!("http://{}", hub.address())])
        .args(arguments)
        .env_remove("TRACEPARENT")
        .env_remove("TRACESTATE")
        .envs(variables.iter().copied())
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test]
async fn a_publish_belongs_to_the_trace_of_its_environment_or_of_its_flags() {
    let parent = sampled();
    let other = parent.replace(TRACE, &"1".repeat(32));
    for (arguments, variables) in [
        (vec![], vec![("TRACEPARENT", &*parent), ("TRACESTATE", "rojo=1")]),
        (
            vec!["--traceparent", &*parent, "--tracestate", "rojo=1"],
            vec![("TRACEPARENT", &*other), ("TRACESTATE", "congo=2")],
        ),
    ] {
        let collector = Collector::start(Behaviour::Takes).await;
        let hub = hub_with(&collector, &[]).await;
        assert_eq!(publish(&hub, &arguments, &variables).await, "");
        let spans = collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
        for span in &spans {
            assert_eq!((&*span.trace, span.state.as_deref()), (TRACE, Some("rojo=1")), "{span:#?}");
        }
        assert!(spans.iter().any(|span| span.parent.as_deref() == Some(PARENT)), "{spans:#?}");
    }
}

#[tokio::test]
async fn a_malformed_trace_is_ignored_and_the_event_is_published() {
    let collector = Collector::start(Behaviour::Takes).await;
    let hub = hub_with(&collector, &[]).await;
    for (parent, state) in [("", "rojo=1"), ("00-abc", "rojo=1"), ("00-abc", "")] {
        let variables = [("TRACEPARENT", parent), ("TRACESTATE", state)];
        let said = publish(&hub, &[], &variables).await;
        assert_eq!(said.contains("traceparent is ignored"), !parent.is_empty(), "{said}");
    }
    assert_eq!(hub.metric("visnyk_traces_total").await, 0.0);
    // A bad `tracestate` is left out, and the `traceparent` counts.
    let parent = sampled();
    let variables = [("TRACEPARENT", &*parent), ("TRACESTATE", "not a list")];
    assert_eq!(publish(&hub, &[], &variables).await, "");
    assert_eq!(hub.metric("visnyk_traces_total").await, 1.0);
}
