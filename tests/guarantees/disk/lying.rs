//! A disk that lies: the checker of the power cuts finds each lie, or the hub refuses to start on
//! what is left.
//!
//! To the disk, a call that is answered and not done is one that the hub has left out. So each lie
//! stands for a mistake of the log, and what follows shows that the power cuts would find it.
//! `log.sync` stands for an answer before the fsync.

use std::time::Duration;

use tokio::time::timeout;

use super::disk_hub::DiskHub;
use super::history::Outcome;
use super::traffic::{Crowd, Traffic};
use crate::fragile::{FragileDisk, Lie};
use crate::support::{PATIENCE, TestHub, seed};

/// How a mistake came to light.
enum Found {
    /// The hub does not start on what is left; what it says.
    Refused(String),
    /// It starts, and what clients have observed cannot have been.
    Violations(Vec<String>),
}

/// Runs a hub over power cuts until the mistake is found, with another seed each time.
///
/// # Panics
/// It is not found.
async fn find(lie: Option<Lie>, sync: &str, only_followers: bool) -> Option<Found> {
    let first = seed();
    for seed in first..first + ROUNDS {
        let fragile = FragileDisk::mount(seed)?;
        if let Some(found) = round(&fragile, lie, sync, only_followers, seed).await {
            let (how, what) = match &found {
                Found::Refused(said) => ("refused", said.clone()),
                Found::Violations(violations) => ("violations", violations.join("; ")),
            };
            println!("{lie:?}, log.sync {sync}, seed {seed}: {how}: {what}");
            return Some(found);
        }
    }
    panic!("{lie:?}, log.sync {sync}, is not found by seeds from {first}");
}

async fn round(
    fragile: &FragileDisk,
    lie: Option<Lie>,
    sync: &str,
    only_followers: bool,
    seed: u64,
) -> Option<Found> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut disk = DiskHub::new().set("log.segment_bytes", "65536").set("log.sync", sync);
    disk.move_to(fragile.path().join("data"));
    let mut hub = disk.start().await;
    let crowd = Crowd { publishers: 8, followers: 6, pause: Duration::from_millis(1) };
    let traffic = Traffic::start(hub.address(), crowd, seed).await;
    fragile.lie(lie);
    for cut in 1..=CUTS {
        traffic.go_on(rng.usize(20..80)).await;
        match lie {
            // What is missing then shows only until the first batch of the segment is fsynced.
            Some(Lie::SpareSyncs) => fragile.stop_behind_name_of_segment(cut),
            _ => fragile.stop_at(rng.u64(1..60)),
        }
        fragile.stopped_within(PATIENCE).await;
        fragile.cut_power(&mut hub).await;
        match timeout(PATIENCE, disk.command().start()).await.expect("it starts, or does not") {
            Ok(started) => hub = TestHub::from(started),
            Err(error) => return Some(Found::Refused(error.to_string())),
        }
    }
    traffic.go_on(20).await;
    let finishing = timeout(3 * PATIENCE, traffic.finish(&hub));
    let mut history = finishing.await.expect("publishers and followers reach the end");
    if only_followers {
        for publish in &mut history.publishes {
            publish.outcome = Outcome::Unknown;
        }
    }
    let mut found = history.violations();
    found.truncate(2);
    (!found.is_empty()).then_some(Found::Violations(found))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsyncs_that_are_left_out_are_found() {
    find(Some(Lie::FileSyncs), "always", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsyncs_of_the_directory_that_are_left_out_are_found() {
    find(Some(Lie::DirectorySyncs), "always", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_have_their_name_before_their_header_are_found() {
    find(Some(Lie::SpareSyncs), "always", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_fsyncs_that_are_taken_for_done_are_found() {
    find(Some(Lie::FailedSyncs), "always", false).await;
}

/// The next start reads a torn tail with a whole segment behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_tails_that_are_not_cut_off_are_found() {
    if let Some(found) = find(Some(Lie::Cuts), "always", false).await {
        let is_refused = matches!(found, Found::Refused(said) if said.contains("is damaged"));
        assert!(is_refused, "the hub starts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_before_the_fsync_is_found() {
    find(None, "200ms", false).await;
}

/// Without what publishers know: a follower has received what is not in the log any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn showing_before_the_fsync_is_found_by_followers_alone() {
    find(None, "200ms", true).await;
}

const ROUNDS: u64 = 20;
/// Of a round.
const CUTS: u64 = 5;
