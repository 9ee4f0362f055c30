//! `visnyk log`: the real binary on the log of a real hub.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use visnyk_loadtest::{Exchange, Hub, HubCommand, Publisher};

#[tokio::test]
async fn a_log_is_inspected_verified_and_exported_into_another_hub() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = start(directory.path()).await;
    let envelopes = "{\"data\":\"one\\ntwo\",\"type\":\"greeting\",\"retry\":7}\n{\"data\":\"\"}\n";
    let answer = Publisher::new(hub.address()).publish_batch("a/b", envelopes, None).await;
    assert_eq!(answer.expect("an answer").status(), 201);
    let in_use = log(directory.path(), &["verify"]);
    assert_eq!(in_use.status.code(), Some(1));
    assert!(text(&in_use.stderr).contains("another hub uses it (process "), "{in_use:?}");
    hub.kill().await.expect("it is killed");

    let verified = log(directory.path(), &["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert_eq!(text(&verified.stdout), "whole: 1 segments, the last event is 2\n");
    let inspected = text(&log(directory.path(), &["inspect"]).stdout);
    assert!(inspected.starts_with("2 events, the last one is "), "{inspected}");
    assert!(inspected.contains("not closed: the hub was killed"), "{inspected}");
    let inspected = log(directory.path(), &["inspect", "--json"]).stdout;
    let inspected: serde_json::Value = serde_json::from_slice(&inspected).expect("JSON");
    assert_eq!(inspected["events"], 2);
    assert_eq!(inspected["segments"][0]["torn_bytes"], 0);

    let exported = log(directory.path(), &["export"]).stdout;
    let other = tempfile::tempdir().expect("a directory");
    let file = other.path().join("events.ndjson");
    fs::write(&file, exported).expect("written");
    let hub = start(&other.path().join("log")).await;
    let published = Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .args(["publish", "other", "--url", &hub.url(), "--file"])
        .arg(&file)
        .output();
    assert_eq!(published.expect("it runs").status.code(), Some(0));
    let events = earliest(&hub, "a/b").await;
    assert_eq!(events[0]["data"], "one\ntwo");
    assert_eq!(events[0]["type"], "greeting");
    assert_eq!(events[1]["data"], "");
}

#[tokio::test]
async fn a_copy_is_refused_until_it_is_imported_and_is_then_another_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path()).await;
    let before = Publisher::new(hub.address()).publish_acked("a", "1").await.expect("published");
    let copy = tempfile::tempdir().expect("a directory");
    // By `cp`, as operators do it: it copies the running hub's socket too.
    let from = directory.path().join(".");
    let copying = Command::new("cp").arg("-a").arg(&from).arg(copy.path()).status();
    assert!(copying.expect("it runs").success());
    let refused = serve(copy.path()).start().await.expect_err("it is refused").to_string();
    assert!(refused.contains("it was copied, restored or moved"), "{refused}");
    assert!(refused.contains("visnyk log import"), "{refused}");
    let imported = log(copy.path(), &["import"]);
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    let copied = start(copy.path()).await;
    assert_eq!(earliest(&copied, "a").await[0]["data"], "1");
    let target = "/v1/channels/a/poll?timeout=0";
    let fields = [("Last-Event-ID", before.as_str())];
    let mut exchange = Exchange::new(copied.address());
    let answer = exchange.request("GET", target, &fields, b"", PATIENCE).await.expect("an answer");
    assert_eq!(answer.json()["gap"]["reason"], "epoch", "{}", answer.body);
}

#[tokio::test]
async fn damage_is_named_and_repaired_only_at_the_price_of_what_is_behind_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = start(directory.path()).await;
    for data in ["1", "2", "3"] {
        Publisher::new(hub.address()).publish_acked("a", data).await.expect("published");
    }
    hub.kill().await.expect("it is killed");
    let segment = directory.path().join("00000000000000000001.log");
    let mut bytes = fs::read(&segment).expect("the segment");
    let second = find(&bytes, b"data: 2");
    bytes[second] ^= 1;
    fs::write(&segment, bytes).expect("written");

    let refused = serve(directory.path()).start().await.expect_err("refused").to_string();
    assert!(refused.contains("00000000000000000001.log is damaged at byte "), "{refused}");
    assert!(refused.contains("The last event before it is 1"), "{refused}");
    let verified = log(directory.path(), &["verify"]);
    assert_eq!(verified.status.code(), Some(1));
    let unchanged = log(directory.path(), &["repair"]);
    assert_eq!(unchanged.status.code(), Some(1));
    assert!(text(&unchanged.stdout).contains("nothing was changed"), "{unchanged:?}");
    assert!(serve(directory.path()).start().await.is_err());

    let repaired = log(directory.path(), &["repair", "--lose"]);
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
    let hub = start(directory.path()).await;
    let events = earliest(&hub, "a").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["data"], "1");
}

#[test]
fn what_is_not_a_log_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = log(&directory.path().join("none"), &["verify"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    assert!(!directory.path().join("none").exists(), "it is not created");
    let empty = log(directory.path(), &["inspect"]);
    assert_eq!(empty.status.code(), Some(1), "{empty:?}");
}

async fn start(directory: &Path) -> Hub {
    serve(directory).start().await.expect("it starts")
}

fn serve(directory: &Path) -> HubCommand {
    HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).args([Path::new("--data-dir"), directory])
}

fn log(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .arg("log")
        .args(args)
        .args([PathBuf::from("--data-dir"), directory.to_owned()])
        .output()
        .expect("it runs")
}

async fn earliest(hub: &Hub, channel: &str) -> Vec<serde_json::Value> {
    let target = format!("/v1/poll?channel={channel}&timeout=0&last_event_id=earliest");
    let mut exchange = Exchange::new(hub.address());
    let answer = exchange.request("GET", &target, &[], b"", PATIENCE).await.expect("an answer");
    answer.json()["events"].as_array().expect("events").clone()
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("it is there")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
