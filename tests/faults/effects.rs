//! What a fault has to show: one that shows nothing was none, and the scenario has tested nothing.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bed::{Bed, PATIENCE};
use crate::mechanism::Mechanism;
use crate::record::{Effect, Record};
use crate::subscriber::Transport;

impl Mechanism {
    /// What it has to show, or it was none.
    fn effects(self) -> Vec<Effect> {
        let status = |any: &[u16]| Effect::Status { any: any.to_vec() };
        let broken = |by: Transport| Effect::Broken { by: by.name() };
        match self {
            Self::RedisFull => vec![status(&[507])],
            Self::ReplicasMissing => vec![status(&[503])],
            Self::RedisStoppedLong | Self::EngineLostTo | Self::EngineLostFrom | Self::HubApart => {
                vec![status(&[503, 504])]
            }
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
                | Self::ConnectionsKilled
                | Self::EngineCut
                | Self::EngineLostTo
                | Self::EngineLostFrom
        )
    }

    /// Whether hubs have to take publishes soon after it is mended, since Redis is there again then.
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
            )
    }

    /// Whether the engine loses what hubs have shown, so that they have to notice.
    pub(crate) fn is_noticed(self) -> bool {
        self.loses() && !matches!(self, Self::FailedOver | Self::SplitBrain)
    }

    /// Notes what the fault has to show; how often each hub has lost its connection so far.
    pub(crate) async fn expect_effects(self, bed: &Bed) -> Vec<f64> {
        for effect in self.effects() {
            bed.recorder.note(Record::Expected { effect });
        }
        let mut disconnects = Vec::new();
        if self.disconnects() {
            for hub in &bed.hubs {
                disconnects.push(hub.metric(DISCONNECTS).await);
            }
        }
        disconnects
    }

    /// Waits until each hub has lost its connection once more than before.
    pub(crate) async fn await_disconnects(bed: &Bed, before: &[f64]) {
        for (number, (hub, before)) in bed.hubs.iter().zip(before).enumerate() {
            let deadline = Instant::now() + PATIENCE;
            // One that drains may end meanwhile.
            while hub.is_up() && hub.metric(DISCONNECTS).await <= *before {
                if Instant::now() >= deadline || hub.readiness().await.is_none() {
                    let is_there = hub.readiness().await.is_some();
                    if is_there {
                        let what = format!("hub {number} has not lost its connection to Redis");
                        bed.recorder.note(Record::Odd { what });
                    }
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

const DISCONNECTS: &str = "visnyk_backend_disconnects_total";
