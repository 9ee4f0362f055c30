//! The process has no free file, whatever has taken them: what opens one waits, and nothing ends.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::time::{Instant, sleep};
use visnyk_loadtest::{Exchange, Publisher};

use super::disk_hub::DiskHub;
use crate::support::{PATIENCE, TestHub};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_files_waits_and_goes_on() {
    let mut disk = DiskHub::new()
        .set("limits.history.total_bytes_max", "20000")
        .set("log.segment_bytes", "65536");
    let mut hub = disk.start().await;
    let mut publisher = Publisher::new(hub.address());
    for n in 0..300 {
        publisher.publish_acked("a", &event(n)).await.expect("published");
    }
    // A connection that is open already.
    let mut reader = Exchange::new(hub.address());
    let answer = reader.request("GET", "/healthz", &[], b"", PATIENCE).await.expect("an answer");
    assert_eq!(answer.status(), 200);

    limit_files(&hub, 3);
    let target = "/v1/poll?channel=a&last_event_id=earliest&limit=10&timeout=30";
    let reading =
        tokio::spawn(async move { reader.request("GET", target, &[], b"", PATIENCE).await });
    // More than the current segment and the spare one hold.
    let publishing = tokio::spawn(async move {
        for n in 300..500 {
            publisher.publish_acked("a", &event(n)).await.expect("published later");
        }
    });
    let begun = Instant::now();
    for line in ["can be neither allocated nor removed", "cannot be read for now"] {
        while !hub.stderr().contains(line) {
            assert!(begun.elapsed() < PATIENCE, "{line}: {}", hub.stderr());
            sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(!publishing.is_finished() && !reading.is_finished(), "both wait");
    limit_files(&hub, 1_000);
    publishing.await.expect("all are acknowledged");
    let answer = reading.await.expect("it ends").expect("an answer");
    assert_eq!(answer.status(), 200, "{}", answer.body);
    assert_eq!(answer.json()["events"][0]["data"], event(0));
    assert!(hub.stderr().contains("can be allocated and removed again"), "{}", hub.stderr());
    hub.terminate().unwrap();
    let status = hub.wait(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", hub.stderr());
}

/// A thousand bytes.
fn event(n: u32) -> String {
    format!("{n:01000}")
}

/// Changes the file limit of a running hub.
fn limit_files(hub: &TestHub, files_max: u64) {
    // The hard limit stays as it was: the hub's is that of this process.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limits = Rlimit { current: Some(files_max), maximum };
    prlimit(Pid::from_raw(hub.pid() as i32), Resource::Nofile, limits).unwrap();
}
