//! The clock of the machine is set between two starts (libfaketime).

use visnyk_loadtest::Exchange;

use super::disk_hub::DiskHub;
use crate::support::{PATIENCE, TestHub, Tool, clock_off_by, data_of, fake_time, seq};

/// The hub starts with its clock so far off; the machine's monotonic clock is as it is.
async fn start_at(disk: &mut DiskHub, offset: &'static str) -> TestHub {
    let library = fake_time().expect("it is there");
    disk.with_environment(&clock_off_by(library, offset));
    disk.start().await
}

/// Publishes under a key; the position, and whether it is a repetition.
async fn publish(hub: &TestHub, key: &str) -> (String, bool) {
    let fields = [("Idempotency-Key", key), ("Content-Type", "text/plain")];
    let answer = hub.request("POST", "/v1/channels/a/events", &fields, key).await;
    assert_eq!(answer.status(), 201, "{}", answer.body);
    let id = answer.json()["id"].as_str().expect("a position").to_owned();
    (id, answer.head.field("idempotent-replayed") == Some("true"))
}

async fn close(hub: &TestHub, channel: &str) {
    let target = format!("/v1/channels/{channel}");
    let answer = Exchange::new(hub.address()).request("DELETE", &target, &[], b"", PATIENCE).await;
    assert_eq!(answer.unwrap().status(), 204);
}

async fn is_closed(hub: &TestHub, channel: &str) -> bool {
    hub.request("POST", &format!("/v1/channels/{channel}/events"), &[], "x").await.status() == 410
}

#[tokio::test]
async fn clock_that_goes_back_over_a_restart_loses_and_repeats_nothing() {
    if !Tool::FakeTime.is_there() {
        return;
    }
    let mut disk = DiskHub::new();
    let mut hub = start_at(&mut disk, "+0").await;
    let (first, _) = publish(&hub, "first").await;
    hub.publish("closed", "x").await;
    close(&hub, "closed").await;
    hub.kill().await.unwrap();
    let mut last = first.clone();
    for (offset, key) in [("-1d", "a day back"), ("-30d", "a month back"), ("+0", "as it was")] {
        let mut hub = start_at(&mut disk, offset).await;
        assert_eq!(
            publish(&hub, "first").await,
            (first.clone(), true),
            "{offset}: the key is known"
        );
        assert!(is_closed(&hub, "closed").await, "{offset}");
        let (next, is_replayed) = publish(&hub, key).await;
        assert!(!is_replayed && seq(&next) > seq(&last), "{offset}: {next} after {last}");
        // A client that was here before goes on.
        let mut stream = hub.stream("channel=a", &last).await;
        assert_eq!(data_of(&mut stream, 1).await, [key]);
        last = next;
        hub.kill().await.unwrap();
    }
    let hub = start_at(&mut disk, "+0").await;
    let retained = hub.retained("channel=a", "earliest").await;
    assert!(retained.contains(&"first".to_owned()), "{retained:?}");
    assert_eq!(retained.last().map(String::as_str), Some("as it was"));
}

#[tokio::test]
async fn clock_that_goes_ahead_over_a_restart_expires_what_has_its_time_and_says_so() {
    if !Tool::FakeTime.is_there() {
        return;
    }
    let mut disk = DiskHub::new();
    let mut hub = start_at(&mut disk, "+0").await;
    let (first, _) = publish(&hub, "first").await;
    let (second, _) = publish(&hub, "second").await;
    hub.publish("closed", "x").await;
    close(&hub, "closed").await;
    hub.kill().await.unwrap();
    // History, keys and tombstones are kept for an hour.
    let mut hub = start_at(&mut disk, "+2d").await;
    assert!(!is_closed(&hub, "closed").await, "its name may be used again");
    let (again, is_replayed) = publish(&hub, "first").await;
    assert!(!is_replayed && seq(&again) > seq(&second), "{again} after {second}");
    let polled = hub.poll_now("channel=a", &first).await;
    let data: Vec<&str> =
        polled["events"].as_array().unwrap().iter().filter_map(|e| e["data"].as_str()).collect();
    assert_eq!(data.last(), Some(&"first"), "{polled}");
    // Either the second is there, or its loss is said.
    assert_ne!(data.contains(&"second"), !polled["gap"].is_null(), "{polled}");
    hub.kill().await.unwrap();
    // And back.
    let hub = start_at(&mut disk, "+0").await;
    assert_eq!(publish(&hub, "first").await, (again.clone(), true), "one answer for one key");
    let (next, _) = publish(&hub, "third").await;
    assert!(seq(&next) > seq(&again), "{next} after {again}");
    let mut stream = hub.stream("channel=a", &again).await;
    assert_eq!(data_of(&mut stream, 1).await, ["third"]);
}
