//! The real binary on a file system whose power is cut, and whose disk fails (tests/fragile).

use std::time::Duration;

use fuser::Errno;
use visnyk_loadtest::Publisher;

use super::disk_hub::DiskHub;
use super::traffic::{Crowd, Traffic};
use crate::fragile::{Call, FragileDisk, Lost};
use crate::support::{PATIENCE, TestHub, seed};

/// A hub with its log on a fragile disk; none if this machine has none.
fn on_fragile_disk(seed: u64) -> Option<(FragileDisk, DiskHub)> {
    let fragile = FragileDisk::mount(seed)?;
    // Small segments: each power cut may be at the change of two.
    let mut disk = DiskHub::new().set("log.segment_bytes", "65536");
    // Two directories that the hub creates, and has to make durable itself.
    disk.move_to(fragile.path().join("hub").join("data"));
    Some((fragile, disk))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_under_load_lose_nothing_that_was_acknowledged() {
    let is_long = std::env::var_os("VISNYK_TEST_LONG").is_some();
    let (cuts, followers) = if is_long { (150, 60) } else { (15, 12) };
    let seed = seed();
    let Some((fragile, mut disk)) = on_fragile_disk(seed) else { return };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut hub = disk.start().await;
    let crowd = Crowd { publishers: 8, followers, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed).await;
    let mut lost = Lost::default();
    for cut in 0..cuts {
        fragile.set_sync_time(Duration::from_millis(if cut % 2 == 0 { 0 } else { 5 }));
        traffic.go_on(rng.usize(1..100)).await;
        // In the midst of one of its next calls: a write, an fsync, or one of the change of
        // segments.
        fragile.stop_at(rng.u64(1..60));
        fragile.stopped_within(PATIENCE).await;
        let now = fragile.cut_power(&mut hub).await;
        lost = Lost { changes: lost.changes + now.changes, names: lost.names + now.names };
        // And once more while it starts, at any call of that.
        if cut % 3 == 2 {
            fragile.stop_at(rng.u64(1..30));
            let command = disk.command();
            let mut start = std::pin::pin!(command.start());
            let started = tokio::select! {
                started = &mut start => started,
                _ = fragile.stopped_within(PATIENCE) => {
                    // The kernel waits for answers before it ends a process.
                    fragile.fail_calls();
                    start.await
                }
            };
            match started {
                Ok(mut hub) => fragile.cut_power(&mut hub).await,
                Err(_) => fragile.cut_power_alone(),
            };
        }
        hub = disk.start().await;
    }
    fragile.set_sync_time(Duration::ZERO);
    traffic.go_on(20).await;
    let history = traffic.check(&hub).await;
    println!("{cuts} power cuts, which took {lost:?}: {}", history.summary());
    assert!(lost.changes > 0 && lost.names > 0, "power cuts that take nothing show nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_fsync_was_for_is_not_believed_after_the_next_start() {
    let seed = seed();
    let Some((fragile, mut disk)) = on_fragile_disk(seed) else { return };
    let mut hub = disk.start().await;
    let crowd = Crowd { publishers: 4, followers: 8, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed).await;
    for call in [Call::Sync, Call::SyncDirectory, Call::Write] {
        traffic.go_on(50).await;
        fragile.fail_once(call, Errno::EIO);
        let status = hub.wait(PATIENCE).await.unwrap_or_else(|_| panic!("{call:?}: it goes on"));
        assert_eq!(status.code(), Some(1), "{call:?}: {}", hub.stderr());
        assert!(fragile.has_failed());
        // It can read what the failed fsync was for, and further fsyncs succeed.
        hub = disk.start().await;
        traffic.go_on(20).await;
        fragile.cut_power(&mut hub).await;
        hub = disk.start().await;
    }
    traffic.go_on(20).await;
    println!("{}", traffic.check(&hub).await.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_that_loses_power_goes_on_when_there_is_room() {
    let seed = seed();
    let Some((fragile, mut disk)) = on_fragile_disk(seed) else { return };
    let mut hub = disk.start().await;
    let crowd = Crowd { publishers: 4, followers: 8, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed).await;
    for _ in 0..2 {
        traffic.go_on(50).await;
        fragile.limit_room(0);
        hub.wait_for_metric("visnyk_disk_full", |full| full == 1.0).await;
        let answer = Publisher::new(hub.address()).publish("a", "refused").await.unwrap();
        assert_eq!(answer.status(), 507, "{}", answer.body);
        fragile.cut_power(&mut hub).await;
        hub = disk.start().await;
        hub.wait_for_metric("visnyk_disk_full", |full| full == 1.0).await;
        fragile.limit_room(u64::MAX);
        hub.wait_for_metric("visnyk_disk_full", |full| full == 0.0).await;
    }
    traffic.go_on(50).await;
    println!("{}", traffic.check(&hub).await.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_fsync_that_hangs_is_not_shown_and_may_be_lost() {
    let seed = seed();
    let Some((fragile, disk)) = on_fragile_disk(seed) else { return };
    let mut disk = disk.set("limits.publish.outcome_wait_ms", "300");
    let mut hub: TestHub = disk.start().await;
    hub.publish("a", "durable").await;
    let mut stream = hub.stream("channel=a", "now").await;
    fragile.hang(true);
    let answer = Publisher::new(hub.address()).publish("a", "hung").await.unwrap();
    assert_eq!(answer.status(), 504, "{}", answer.body);
    assert_eq!(hub.retained("channel=a", "earliest").await, ["durable"], "it is not shown");
    // When it comes back, what waited is shown.
    fragile.hang(false);
    let shown = stream.next_event(PATIENCE).await.unwrap().unwrap();
    assert_eq!(shown.data.as_deref(), Some("hung"));
    // When it never does, nothing is missing of what was.
    fragile.hang(true);
    let answer = Publisher::new(hub.address()).publish("a", "never answered").await.unwrap();
    assert_eq!(answer.status(), 504, "{}", answer.body);
    fragile.cut_power(&mut hub).await;
    let hub = disk.start().await;
    let retained = hub.retained("channel=a", "earliest").await;
    assert!(retained.starts_with(&["durable".into(), "hung".into()]), "{retained:?}");
    assert!(retained.len() <= 3, "{retained:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_share_the_fsyncs_of_a_slow_disk() {
    let seed = seed();
    let Some((fragile, mut disk)) = on_fragile_disk(seed) else { return };
    fragile.set_sync_time(Duration::from_millis(20));
    let hub = disk.start().await;
    let crowd = Crowd { publishers: 16, followers: 4, pause: Duration::ZERO };
    let traffic = Traffic::start(hub.address(), crowd, seed).await;
    traffic.go_on(16).await;
    let (syncs, acked) = (fragile.syncs(), traffic.acked());
    traffic.go_on(320).await;
    let (syncs, acked) = (fragile.syncs() - syncs, traffic.acked() - acked);
    println!("{acked} publishes, {syncs} fsyncs; {}", traffic.check(&hub).await.summary());
    assert!(acked as u64 > 4 * syncs, "{acked} publishes by {syncs} fsyncs");
}
