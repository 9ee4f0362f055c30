//! The hub is killed again and again, under load, in its start, and while it is stopped.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::disk_hub::DiskHub;
use super::traffic::{Crowd, Traffic};
use crate::support::seed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let is_long = std::env::var_os("VISNYK_TEST_LONG").is_some();
    let (cycles, followers) = if is_long { (100, 200) } else { (15, 32) };
    let seed = seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut disk = DiskHub::new();
    let mut hub = disk.start().await;
    let crowd = Crowd { publishers: 8, followers, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed).await;
    for cycle in 0..cycles {
        traffic.go_on(rng.usize(1..150)).await;
        sleep(Duration::from_millis(rng.u64(..20))).await;
        if cycle % 5 == 4 {
            hub.signal(Signal::STOP).unwrap();
        }
        hub.kill().await.unwrap();
        // Killed again while it starts, at any moment of it.
        if cycle % 3 == 2 {
            let _ = disk.start_within(Duration::from_millis(rng.u64(1..60))).await;
        }
        hub = disk.start().await;
    }
    traffic.go_on(20).await;
    let history = traffic.check(&hub).await;
    println!("{cycles} kills: {}", history.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigstop_under_load_delays_and_loses_nothing() {
    let mut disk = DiskHub::new();
    let hub = disk.start().await;
    let crowd = Crowd { publishers: 4, followers: 12, pause: Duration::from_millis(3) };
    let traffic = Traffic::start(hub.address(), crowd, seed()).await;
    for _ in 0..3 {
        traffic.go_on(50).await;
        hub.signal(Signal::STOP).unwrap();
        sleep(Duration::from_millis(500)).await;
        hub.signal(Signal::CONT).unwrap();
    }
    traffic.go_on(50).await;
    println!("{}", traffic.check(&hub).await.summary());
}
