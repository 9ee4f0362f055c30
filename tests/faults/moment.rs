//! When a fault strikes: what is under way at that time.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, PATIENCE};
use crate::proxy::{Direction, Flow};
use crate::record::Record;
use crate::traffic::Traffic;

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Subscribers wait; no publish is under way.
    Idle,
    /// Publishes and deliveries are under way.
    Load,
    /// Publishes are with hubs, and the engine has not got them.
    BeforeSequencing,
    /// Publishes have their seq, and an fsync of 50 ms is under way (`strace`).
    BeforeDurable,
    /// The engine has executed publishes, and no hub knows that yet.
    BeforeShow,
    /// Subscribers read what was published before they came.
    Replay,
    /// The first hub drains.
    Drain,
}

impl Moment {
    /// As in the names of scenarios.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Load => "load",
            Self::BeforeSequencing => "before-sequencing",
            Self::BeforeDurable => "before-durable",
            Self::BeforeShow => "before-show",
            Self::Replay => "replay",
            Self::Drain => "drain",
        }
    }

    /// Waits for it, or brings it about.
    pub(crate) async fn engage(self, bed: &mut Bed, traffic: &mut Traffic) {
        match self {
            Self::Idle => traffic.idle().await,
            Self::Load => {}
            Self::BeforeDurable => held_up(traffic, IN_FSYNC).await,
            Self::BeforeSequencing => {
                bed.engine_flow(Direction::ToServer, Flow::Hold);
                held_up(traffic, HELD).await;
            }
            Self::BeforeShow => {
                bed.engine_flow(Direction::ToClient, Flow::Hold);
                held_up(traffic, HELD).await;
            }
            Self::Replay => {
                bed.front_flow(Direction::ToClient, Flow::Drip(2_000));
                traffic.replay().await;
            }
            Self::Drain => {
                for _ in 0..DRAINS_MAX {
                    if drains(bed).await {
                        return;
                    }
                    // On a busy machine it may be over before a look at it.
                    bed.hubs[0].ended().await;
                    bed.hubs[0].start_again(&bed.recorder).await;
                }
                panic!("the drain was missed {DRAINS_MAX} times");
            }
        }
    }

    /// Ends it, behind the fault.
    pub(crate) async fn release(self, bed: &mut Bed, traffic: &mut Traffic) {
        match self {
            Self::Idle => traffic.go_on(),
            Self::Load | Self::BeforeDurable => {}
            Self::BeforeSequencing => bed.engine_flow(Direction::ToServer, Flow::Pass),
            Self::BeforeShow => bed.engine_flow(Direction::ToClient, Flow::Pass),
            Self::Replay => bed.front_flow(Direction::ToClient, Flow::Pass),
            Self::Drain => {
                // Unless the fault has ended it, and it was started again.
                if !traffic.has_first_hub_restarted && bed.hubs[0].is_up() {
                    let code = bed.hubs[0].ended().await;
                    if code != Some(0) {
                        let what = format!("the hub that drained ends with {code:?}");
                        bed.recorder.note(Record::Odd { what });
                    }
                    bed.hubs[0].start_again(&bed.recorder).await;
                }
            }
        }
    }
}

/// Begins the drain of the first hub; false if it has ended before it answered that it is not
/// ready.
async fn drains(bed: &Bed) -> bool {
    bed.hubs[0].signal(Signal::TERM);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bed.hubs[0].readiness().await {
            Some(503) => return true,
            None => return false,
            Some(_) => assert!(Instant::now() < deadline, "the hub does not drain"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until publishes are under way and none of them gets on for some time.
async fn held_up(traffic: &Traffic, time: Duration) {
    let deadline = Instant::now() + PATIENCE;
    let mut acked = (traffic.acked(), Instant::now());
    while traffic.under_way() == 0 || acked.1.elapsed() < time {
        assert!(Instant::now() < deadline, "publishes go on");
        if traffic.acked() != acked.0 {
            acked = (traffic.acked(), Instant::now());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

const DRAINS_MAX: usize = 5;
const HELD: Duration = Duration::from_millis(100);
/// Of the 50 ms that an fsync takes: none is acknowledged for so long only while one is under way.
const IN_FSYNC: Duration = Duration::from_millis(20);
