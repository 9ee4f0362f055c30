//! The hub is ended in good order and started again.

use std::time::Duration;

use serde_json::Value;
use visnyk_loadtest::Publisher;

use super::disk_hub::DiskHub;
use super::traffic::{Crowd, Traffic, log_of};
use crate::support::{PATIENCE, TestHub, seed, seq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_closes_the_log_and_the_next_start_goes_on_without_a_hole() {
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    let crowd = Crowd { publishers: 6, followers: 16, pause: Duration::from_millis(3) };
    let traffic = Traffic::start(hub.address(), crowd, seed()).await;
    let epoch = epoch(&hub).await;
    for _ in 0..4 {
        traffic.go_on(60).await;
        assert!(!disk.data_dir().join("clean").exists(), "it is in use");
        hub.terminate().unwrap();
        let status = hub.wait(PATIENCE).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", hub.stderr());
        assert!(disk.data_dir().join("clean").exists(), "it is closed");
        hub = disk.start().await;
        assert_eq!(self::epoch(&hub).await, epoch);
    }
    traffic.go_on(20).await;
    let history = traffic.check(&hub).await;
    println!("{}", history.summary());
    let seqs: Vec<u64> = history.log.iter().map(|entry| entry.seq).collect();
    let dense: Vec<u64> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, dense, "a log that was closed goes on with the next seq");
}

#[tokio::test]
async fn publishes_are_taken_in_a_drain_until_the_log_is_closed() {
    let mut disk = DiskHub::new().set("drain_window_s", "3");
    let mut hub = disk.start().await;
    let stream = hub.stream("channel=other", "now").await;
    let mut publisher = Publisher::new(hub.address());
    publisher.publish_acked("a", "before").await.unwrap();
    hub.terminate().unwrap();
    hub.wait_for_line("draining", PATIENCE).await.unwrap();
    publisher.publish_acked("a", "in the drain").await.unwrap();
    drop(stream);
    assert_eq!(hub.wait(PATIENCE).await.unwrap().code(), Some(0), "{}", hub.stderr());
    let hub = disk.start().await;
    assert_eq!(hub.retained("channel=a", "earliest").await, ["before", "in the drain"]);
}

#[tokio::test]
async fn quickstart_ids_grow_over_restarts_of_either_kind() {
    let mut disk = DiskHub::new();
    let (mut first, mut last) = (None, 0);
    for round in 0..4 {
        let mut hub = disk.start().await;
        for number in 0..2 {
            let message = format!("{round} {number}");
            let body = format!(r#"{{"message":"{message}"}}"#);
            let fields = [("Content-Type", "application/json")];
            let answer = hub.request("POST", "/publish", &fields, &body).await;
            assert_eq!(answer.json()["status"], "Message sent", "{}", answer.body);
            let next = hub.get(&format!("/subscribe?after={last}")).await.json();
            assert_eq!(next["message"], Value::from(message), "{next}");
            let id = next["id"].as_u64().expect("a number");
            assert!(id > last, "{id} after {last}");
            first.get_or_insert(id);
            last = id;
        }
        match round % 2 {
            0 => hub.kill().await.unwrap(),
            _ => {
                hub.terminate().unwrap();
                assert_eq!(hub.wait(PATIENCE).await.unwrap().code(), Some(0), "{}", hub.stderr());
            }
        }
    }
    let hub = disk.start().await;
    let log = log_of(&hub).await;
    assert_eq!(log.len(), 8);
    // An id is the seq and when the log was begun, which a restart does not change.
    assert_eq!(last - log[7].seq, first.expect("an id") - log[0].seq);
}

async fn epoch(hub: &TestHub) -> String {
    let answer = hub.get("/v1/poll?channel=a&timeout=0").await;
    let position = answer.head.field("last-event-id").expect("a position").to_owned();
    assert!(seq(&position) < 1 << 20, "no seqs are skipped after a close: {position}");
    position.split_once('-').expect("a position").0.to_owned()
}
