//! The settings of traces: what is refused, what reloads, and that no secret is shown.

use std::fs;

use serde_json::json;
use tokio::process::Command;
use visnyk_loadtest::HubCommand;

use super::{
    collector::{Behaviour, Collector},
    publish,
};
use crate::support::TestHub;

/// What `visnyk config --check` says to these variables, and whether it is content.
async fn check(variables: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .args(["config", "--check"])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .envs(variables.iter().copied())
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

#[tokio::test]
async fn a_bad_collector_is_refused_without_its_secrets() {
    const ENDPOINT: &str = "VISNYK_TRACES__ENDPOINT";
    const HEADERS: &str = "VISNYK_TRACES__HEADERS";
    let good = (ENDPOINT, "http://127.0.0.1:4318/v1/traces");
    assert!(check(&[good, (HEADERS, "authorization=Bearer planted")]).await.0);
    for (variables, says) in [
        (vec![(ENDPOINT, "grpc://127.0.0.1:4317/v1/traces")], "http://HOST:PORT/v1/traces"),
        (vec![(ENDPOINT, "http://ann:planted@otel.example/v1/traces")], "traces.endpoint"),
        (vec![(ENDPOINT, "http://otel.example/v1/traces?key=planted")], "traces.endpoint"),
        (vec![(HEADERS, "authorization=planted")], "no effect without traces.endpoint"),
        (vec![good, (HEADERS, "planted")], "traces.headers"),
        (vec![good, (HEADERS, "host=planted")], "name=value,name=value"),
    ] {
        let (is_content, said) = check(&variables).await;
        assert!(!is_content && said.contains(says), "{variables:?}: {said}");
        assert!(!said.contains("planted"), "{said}");
    }
}

#[tokio::test]
async fn sampling_reloads_and_a_collector_needs_a_restart() {
    let collector = Collector::start(Behaviour::Takes).await;
    let directory = tempfile::tempdir().expect("a directory");
    let write = |header: &str, sampled: u32| {
        let toml = format!(
            "[traces]\nendpoint = \"{}\"\nheaders = \"x-team={header}\"\nsampled_per_million = {sampled}\n",
            collector.url()
        );
        fs::write(directory.path().join("visnyk.toml"), toml).expect("it is written");
    };
    write("planted-1", 0);
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).directory(directory.path());
    let hub = TestHub::start_with(command).await;
    publish(&hub, &[]).await;
    assert_eq!(hub.metric("visnyk_traces_total").await, 0.0);
    write("planted-2", 1_000_000);
    let answer = hub.request("POST", "/v1/reload", &[], "").await;
    assert_eq!(answer.status(), 200, "{}", answer.body);
    assert_eq!(answer.json()["changed"], json!(["traces.sampled_per_million"]), "{}", answer.body);
    assert_eq!(answer.json()["needs_restart"], json!(["traces.headers"]), "{}", answer.body);
    publish(&hub, &[]).await;
    collector.wait_for(|spans| spans.iter().any(|it| it.name == "fan_out")).await;
    assert_eq!(collector.requests()[0].headers["x-team"], "planted-1");
    assert!(!hub.stderr().contains("planted"), "{}", hub.stderr());
}
