//! One system call of the log fails, or hangs (`strace -e inject`).
//!
//! strace counts the calls of each thread for itself: the thread that writes the log has few
//! others.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use visnyk_loadtest::{Exchange, Publisher, SseRequest};

use super::disk_hub::{DiskHub, VISNYK};
use super::traffic::{Crowd, Traffic};
use crate::support::{PATIENCE, Tool, seed, tracer};

impl DiskHub {
    /// Its next start has this injected.
    fn inject(&mut self, inject: &str) {
        self.run_by(tracer(Path::new(VISNYK), inject, self.scratch()));
    }
}

/// A fault ends the hub with exit code 1, at this moment; after the next start all is as promised.
async fn assert_ends_and_loses_nothing(inject: &str) {
    let mut disk = DiskHub::new().set("log.segment_bytes", "65536");
    let mut hub = disk.start().await;
    let crowd = Crowd { publishers: 4, followers: 8, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed()).await;
    traffic.go_on(20).await;
    hub.kill().await.unwrap();

    disk.inject(inject);
    let mut hub = disk.start().await;
    let status = hub.wait(2 * PATIENCE).await.unwrap_or_else(|_| panic!("{inject}: it goes on"));
    assert_eq!(status.code(), Some(1), "{inject}: {}", hub.stderr());
    let said = hub.stderr();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("visnyk: the log failed"), "{inject}: {said}");

    disk.run_by(VISNYK);
    let hub = disk.start().await;
    traffic.go_on(20).await;
    println!("{inject}: {}", traffic.check(&hub).await.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_call_of_the_log_ends_the_hub_and_loses_nothing_that_was_shown() {
    if !Tool::Strace.is_there() {
        return;
    }
    for inject in [
        // Of a batch.
        "fdatasync:error=EIO:when=20",
        "fdatasync:error=ENOSPC:when=30",
        // The write of a batch.
        "pwrite64:error=EIO:when=15",
        "pwrite64:error=ENOSPC:when=25",
        // The next segment: its name, the directory, what the last one gives back.
        "rename:error=EIO:when=2",
        "fsync:error=EIO:when=5",
        "ftruncate:error=EIO:when=3",
        // Allocating the next one fails otherwise than for want of room.
        "fallocate:error=EIO:when=3",
    ] {
        assert_ends_and_loses_nothing(inject).await;
    }
}

#[tokio::test]
async fn failed_call_of_the_start_is_refused_and_changes_nothing() {
    if !Tool::Strace.is_there() {
        return;
    }
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    hub.publish("a", "acknowledged").await;
    hub.kill().await.unwrap();
    for inject in [
        // Of the segment before it is read, and once it is cut.
        "fdatasync:error=EIO:when=1",
        "fdatasync:error=EIO:when=2",
        "ftruncate:error=EIO:when=2",
        "pread64:error=EIO:when=3",
        "flock:error=ENOLCK:when=1",
    ] {
        disk.inject(inject);
        let said = disk.start_refused().await;
        let error = if inject.contains("EIO") { "Input/output error" } else { "No locks" };
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains("did not start") && last.contains(error), "{inject}: {said}");
    }
    disk.run_by(VISNYK);
    let hub = disk.start().await;
    assert_eq!(hub.retained("channel=a", "earliest").await, ["acknowledged"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allocation_without_room_refuses_publishes_until_there_is_room() {
    if !Tool::Strace.is_there() {
        return;
    }
    let mut disk = DiskHub::new();
    disk.inject("fallocate:error=ENOSPC:when=3..6");
    let hub = disk.start().await;
    let crowd = Crowd { publishers: 4, followers: 8, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed()).await;
    let refused = r#"visnyk_publishes_refused_total{reason="storage_full"}"#;
    hub.wait_for_metric(refused, |count| count > 0.0).await;
    traffic.go_on(100).await;
    assert_eq!(hub.metric("visnyk_disk_full").await, 0.0);
    println!("{}", traffic.check(&hub).await.summary());
}

#[tokio::test]
async fn log_that_cannot_be_closed_ends_with_a_failure() {
    if !Tool::Strace.is_there() {
        return;
    }
    // The last fsync of the segment, and that of the file `clean`; the first two are of the header
    // and of the event.
    for when in [3, 4] {
        let mut disk = DiskHub::new();
        disk.inject(&format!("fdatasync:error=EIO:when={when}"));
        let mut hub = disk.start().await;
        hub.publish("a", "acknowledged").await;
        hub.terminate().unwrap();
        let status = hub.wait(PATIENCE).await.unwrap();
        assert_eq!(status.code(), Some(1), "{when}: {}", hub.stderr());
        assert!(!disk.data_dir().join("clean").exists());
        disk.run_by(VISNYK);
        let hub = disk.start().await;
        assert_eq!(hub.retained("channel=a", "earliest").await, ["acknowledged"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsync_that_hangs_ten_seconds_holds_up_publishers_alone() {
    if !Tool::Strace.is_there() {
        return;
    }
    const PERMITS: usize = 8;
    let mut disk = DiskHub::new()
        .set("limits.publish.outcome_wait_ms", "1000")
        .set("limits.publish.in_flight_max", "8")
        .set("limits.publish.wait_ms", "200")
        .set("limits.connections.heartbeat_s", "1");
    // The header, two events; then it hangs.
    disk.inject("fdatasync:delay_enter=10000000:when=4");
    let hub = disk.start().await;
    for data in ["0", "1"] {
        hub.publish("a", data).await;
    }
    let mut stream = hub.stream("channel=a", "now").await;
    let hung = Instant::now();
    // More than there are permits. Those that get one are in the order, and have no answer in time.
    let mut publishes = JoinSet::new();
    for number in 0..2 * PERMITS {
        let address = hub.address();
        publishes.spawn(async move {
            let data = format!("hung {number}");
            let answer = Publisher::new(address).publish("a", &data).await.unwrap();
            (data, answer)
        });
    }
    let mut unknown = Vec::new();
    while let Some(ended) = publishes.join_next().await {
        let (data, answer) = ended.unwrap();
        match answer.status() {
            503 => continue,
            status => assert_eq!(status, 504, "{}", answer.body),
        }
        assert_eq!(answer.json()["type"], "outcome-unknown", "{}", answer.body);
        unknown.push(data);
    }
    assert!((1..=PERMITS).contains(&unknown.len()), "{unknown:?}");
    let counted = hub.metric("visnyk_publishes_unknown_total").await;
    assert_eq!(counted, unknown.len() as f64);
    let took = hung.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    // Further ones are refused, and all else is on time.
    let mut refused = 0;
    let mut slowest = Duration::ZERO;
    let mut heartbeats = 0;
    while hung.elapsed() < Duration::from_secs(8) {
        let answer = Publisher::new(hub.address()).publish("a", "refused").await.unwrap();
        assert_eq!(answer.status(), 503, "{}", answer.body);
        assert!(answer.head.field("retry-after").is_some());
        refused += 1;
        let began = Instant::now();
        let ready = hub.request("GET", "/readyz", &[], "").await;
        assert_eq!(ready.status(), 200, "{}", ready.body);
        let request = SseRequest::new("/v1/events?channel=a").from("earliest");
        let mut other = hub.open(&request).await;
        let event = other.next_event(PATIENCE).await.unwrap().unwrap();
        assert_eq!(event.data.as_deref(), Some("0"), "what is durable is delivered");
        slowest = slowest.max(began.elapsed());
        let began = Instant::now();
        let poll = Exchange::new(hub.address())
            .request("GET", "/v1/poll?channel=a&timeout=1", &[], b"", PATIENCE)
            .await
            .unwrap();
        assert_eq!(poll.status(), 204, "what is not durable is not shown: {}", poll.body);
        slowest = slowest.max(began.elapsed().saturating_sub(Duration::from_secs(1)));
        while let Ok(block) = timeout(Duration::from_millis(1), stream.next_block(PATIENCE)).await {
            let block = block.unwrap().expect("the stream goes on");
            assert_eq!(block.data, None, "what is not durable is not shown");
            heartbeats += 1;
        }
    }
    println!("slowest answer {slowest:?}; {heartbeats} heartbeats; {refused} refused");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(heartbeats >= 4, "{heartbeats} heartbeats in 8 s");
    assert!(hub.metric("visnyk_disk_sync_began_seconds").await > 0.0);
    // It comes back: all that was in the order is delivered, each once.
    let mut received = Vec::new();
    while received.len() < unknown.len() {
        let event = stream.next_event(PATIENCE).await.unwrap().expect("the stream goes on");
        received.extend(event.data);
    }
    received.sort();
    unknown.sort();
    assert_eq!(received, unknown);
    let deadline = Instant::now() + PATIENCE;
    while Publisher::new(hub.address()).publish("a", "after").await.unwrap().status() != 201 {
        assert!(Instant::now() < deadline, "publishing goes on");
        sleep(Duration::from_millis(20)).await;
    }
}
