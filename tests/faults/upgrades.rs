//! Upgrades from one version of the hub to another: one hub after the other.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, PATIENCE};
use crate::record::Record;
use crate::traffic::Traffic;
use crate::version::Version;

/// From the earlier version to the present one and back, on to it again, to one that reads the next
/// format, and to one that writes it: one hub after the other each time.
pub(crate) async fn upgrade_and_back(bed: &mut Bed, traffic: &mut Traffic) {
    let steps = [
        Version::Present,
        Version::Earlier,
        Version::Present,
        Version::Later { writes: 1 },
        Version::Later { writes: 2 },
        // Back to one that writes the former format; no hub without the later one could start.
        Version::Later { writes: 1 },
    ];
    for version in steps {
        for hub in 0..bed.hubs.len() {
            change(bed, hub, version).await;
            assert!(traffic.acknowledged(20).await, "hubs of two versions take publishes");
        }
    }
}

/// The first hub is of a version that writes the next format, which the second one cannot read.
pub(crate) async fn raise_format(bed: &mut Bed, traffic: &mut Traffic) {
    let later = Version::Later { writes: 2 };
    change(bed, 0, later).await;
    let deadline = Instant::now() + PATIENCE;
    while bed.hubs[1].readiness().await != Some(503) {
        assert!(Instant::now() < deadline, "a hub goes on that cannot read what is written");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(traffic.acknowledged(20).await, "the other hub takes publishes");
    change(bed, 1, later).await;
    let said = bed.stderr();
    assert!(said.contains("was written by a later version of the hub (format 2)"), "{said}");
}

async fn change(bed: &mut Bed, number: usize, version: Version) {
    bed.note(&format!("hub {number} becomes {version:?}"));
    let recorder = bed.recorder.clone();
    let hub = &mut bed.hubs[number];
    hub.signal(Signal::TERM);
    let code = hub.ended().await;
    if code != Some(0) {
        recorder.note(Record::Odd { what: format!("hub {number} ends with {code:?}") });
    }
    hub.change_version(version);
    hub.start_again(&recorder).await;
    let deadline = Instant::now() + PATIENCE;
    while !hub.is_ready().await {
        assert!(Instant::now() < deadline, "hub {number} is not ready as {version:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
