//! What still counts of segments that have been removed, over restarts of either kind.

use serde_json::Value;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::Publisher;

use super::disk_hub::DiskHub;
use crate::support::{PATIENCE, TestHub, ndjson, with_seq};

#[tokio::test]
async fn removed_segments_leave_true_gaps_closed_channels_and_keys() {
    let mut disk = DiskHub::new().set("log.segment_bytes", "65536").set("log.bytes_max", "262144");
    let mut hub = disk.start().await;
    let (quiet, is_replayed) = publish_under_key(&hub).await;
    assert!(!is_replayed);
    hub.publish("closed", "x").await;
    assert_eq!(hub.request("DELETE", "/v1/channels/closed", &[], "").await.status(), 204);
    let mut publisher = Publisher::new(hub.address());
    let data = "y".repeat(500);
    let lines = ndjson((0..100).map(|_| (None, data.as_str())));
    let first = disk.data_dir().join("00000000000000000001.log");
    let deadline = Instant::now() + PATIENCE;
    while first.exists() {
        assert!(Instant::now() < deadline, "the first segment is removed");
        let answer = publisher.publish_batch("busy", &lines, None).await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.body);
        sleep(std::time::Duration::from_millis(20)).await;
    }
    for is_killed in [true, true, false, true] {
        match is_killed {
            true => hub.kill().await.unwrap(),
            false => {
                hub.terminate().unwrap();
                assert_eq!(hub.wait(PATIENCE).await.unwrap().code(), Some(0), "{}", hub.stderr());
            }
        }
        hub = disk.start().await;
        let polled = hub.poll_now("channel=quiet", &quiet).await;
        assert_eq!(polled, Value::Null, "it had all of its channel: a gap would be false");
        let polled = hub.poll_now("channel=quiet", &with_seq(&quiet, 0)).await;
        assert_eq!(polled["gap"]["reason"], "evicted", "{polled}");
        let closed = publisher.publish("closed", "late").await;
        // Its connection was to the hub before.
        let closed = match closed {
            Ok(answer) => answer,
            Err(_) => publisher.publish("closed", "late").await.unwrap(),
        };
        assert_eq!(closed.status(), 410, "{}", closed.body);
        assert_eq!(publish_under_key(&hub).await, (quiet.clone(), true), "the key is known");
    }
}

/// Publishes the same under the same key; the position, and whether it is a repetition.
async fn publish_under_key(hub: &TestHub) -> (String, bool) {
    let fields = [("Idempotency-Key", "k"), ("Content-Type", "text/plain")];
    let answer = hub.request("POST", "/v1/channels/quiet/events", &fields, "one").await;
    assert_eq!(answer.status(), 201, "{}", answer.body);
    let id = answer.json()["id"].as_str().expect("a position").to_owned();
    (id, answer.head.field("idempotent-replayed") == Some("true"))
}
