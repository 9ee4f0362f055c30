//! What a fault has to show: one that shows nothing was none, and the scenario has tested nothing.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bed::{Bed, PATIENCE};
use crate::mechanism::Mechanism;
use crate::moment::Moment;
use crate::record::{Effect, Record};
use crate::subscriber::Transport;

impl Mechanism {
    /// What it has to show, or it was none.
    fn effects(self) -> Vec<Effect> {
        let status = |hub, any: &[u16]| Effect::Status { hub, any: any.to_vec() };
        let broken = |by: Transport| Effect::Broken { by: by.name() };
        match self {
            Self::RedisFull => vec![status(None, &[507])],
            Self::ReplicasMissing => vec![status(None, &[503])],
            Self::RedisStoppedLong | Self::EngineLostTo | Self::EngineLostFrom => {
                [0, 1].map(|hub| status(Some(hub), &[503, 504])).into()
            }
            Self::HubApart | Self::SplitBrainRefused => vec![status(Some(0), &[503, 504])],
            _ if self.is_noticed() => vec![Effect::Gap { reason: "epoch".to_owned() }],
            Self::ClientsCut | Self::ClientsLostFrom => vec![broken(Transport::Stream)],
            // Streams go on, since they send nothing; polls have no answer.
            Self::ClientsLostTo => vec![broken(Transport::Poll)],
            _ => Vec::new(),
        }
    }

    /// Whether each hub has to lose its connections to Redis.
    fn disconnects(self) -> bool {
        matches!(
            self,
            Self::RedisKilled
                | Self::RedisRestarted
                | Self::RedisStoppedLong
                | Self::RedisOlder
                | Self::RedisOlderEpoch
                | Self::RedisOlderTwice
                | Self::FailedOver
                | Self::FailedOverLagging
                | Self::MasterDemoted
                | Self::ClusterFailedOver
                | Self::ClusterMasterKilled
                | Self::SlotMoved
                | Self::ConnectionsKilled
                | Self::EngineCut
                | Self::EngineLostTo
                | Self::EngineLostFrom
        )
    }

    /// Whether hubs have to take publishes soon after it is mended, since Redis is there again
    /// then.
    pub(crate) fn comes_back(self) -> bool {
        self.disconnects()
            || matches!(
                self,
                Self::RedisStopped
                    | Self::RedisEmptied
                    | Self::RedisPaused
                    | Self::RedisFull
                    | Self::ReplicasMissing
                    | Self::ScriptsFlushed
                    | Self::EngineApart
                    | Self::HubApart
                    | Self::HubApartEmptied
                    | Self::HubApartOlder
                    | Self::HubApartRestarted
                    | Self::SplitBrainRefused
            )
    }

    /// Whether the engine loses what hubs have shown, so that they have to notice.
    pub(crate) fn is_noticed(self) -> bool {
        self.loses()
            && !matches!(self, Self::FailedOver | Self::ClusterMasterKilled | Self::SplitBrain)
    }

    /// Notes what the fault has to show; how often each hub that has to lose its connection has
    /// lost it so far.
    pub(crate) async fn expect_effects(self, bed: &Bed, moment: Moment) -> Vec<(usize, f64)> {
        for effect in self.effects() {
            bed.recorder.note(Record::Expected { effect });
        }
        let mut disconnects = Vec::new();
        // One that drains may end before it loses the connection.
        let first = usize::from(moment == Moment::Drain);
        for number in first..if self.disconnects() { bed.hubs.len() } else { 0 } {
            let before = bed.hubs[number].metric(DISCONNECTS).await;
            disconnects.push((number, before.expect("a hub that runs gives its metrics")));
        }
        disconnects
    }

    /// Waits until each of these hubs has lost its connection once more than before.
    pub(crate) async fn await_disconnects(bed: &Bed, before: &[(usize, f64)]) {
        for &(number, before) in before {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let now = bed.hubs[number].metric(DISCONNECTS).await;
                if now.is_some_and(|now| now > before) {
                    break;
                }
                if Instant::now() >= deadline {
                    let what = format!(
                        "hub {number} has not lost its connection to Redis: {now:?} times, {before} before"
                    );
                    bed.recorder.note(Record::Odd { what });
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

const DISCONNECTS: &str = "visnyk_backend_disconnects_total";
