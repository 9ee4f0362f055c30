//! What is broken, and how it is mended.

use std::time::Duration;

use rustix::process::Signal;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, PATIENCE, Setup};
use crate::moment::Moment;
use crate::proxy::{Direction, Flow};
use crate::publisher::{BUSY, QUIET};
use crate::record::Record;
use crate::rolling;
use crate::traffic::Traffic;
use crate::upgrades;
use crate::version::Version;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// SIGKILL of the first hub; it is started again.
    HubKilled,
    /// SIGKILL of all hubs at once.
    HubsKilled,
    /// SIGSTOP of the first hub, for 1.5 s.
    HubStopped,
    /// SIGTERM of the first hub; it is started again once it has drained.
    HubRestarted,
    /// SIGSTOP of the first hub, until the log has removed events that it has not read.
    HubLeftBehind,
    /// SIGKILL of the first hub; it is started again when the log has removed events that its
    /// clients had not had.
    HubAway,
    /// SIGKILL of the first hub, behind an nginx.
    HubKilledBehindNginx,
    /// One hub after the other is restarted, behind an nginx.
    RollingRestart,
    /// One hub after the other is replaced by one of another version, there and back
    /// (`tests/faults/versions`).
    RollingUpgrade,
    /// One hub is replaced by one of a later version, whose entries the other one cannot read; then
    /// that one, too.
    FormatRaised,
    /// Another process takes over sockets and log.
    HubTakenOver,
    /// A system call of the log fails (`strace`), which ends the hub; it is started again.
    HubFailed,
    /// The power of the hub's disk is cut in the midst of one of its next calls, which takes what
    /// is not fsynced (FUSE).
    PowerCut,
    /// SIGKILL of Redis, which keeps its append-only file.
    RedisKilled,
    /// SIGTERM of Redis.
    RedisRestarted,
    /// SIGSTOP of Redis, for 1.5 s.
    RedisStopped,
    /// SIGSTOP of Redis for 6 s: longer than a hub waits for an answer.
    RedisStoppedLong,
    /// `FLUSHALL`.
    RedisEmptied,
    /// An older copy of its files.
    RedisOlder,
    /// An older copy, of another epoch than the present one.
    RedisOlderEpoch,
    /// An older copy, while no hub runs that could notice.
    RedisOlderCold,
    /// An older copy, and once more while hubs load the first one and their clients wait to read
    /// it.
    RedisOlderTwice,
    /// `FLUSHALL`, and once more; the second time the hub that begins the epoch has a clock that is
    /// behind.
    RedisEmptiedTwice,
    /// It is killed, and a replica that was connected takes over.
    FailedOver,
    /// It is killed, and a replica that has missed the last events takes over.
    FailedOverLagging,
    /// The master and its replica change roles in agreement (`FAILOVER`); connections stay.
    MasterDemoted,
    /// The replica of a cluster takes over in agreement with the master (`CLUSTER FAILOVER`), and
    /// later that one again.
    ClusterFailedOver,
    /// The master of the log in a cluster is killed.
    ClusterMasterKilled,
    /// The slot of the log moves to another master, in steps.
    SlotMoved,
    /// `CLIENT PAUSE`, for 1.5 s.
    RedisPaused,
    /// `maxmemory` is reached, for 1.5 s.
    RedisFull,
    /// `min-replicas-to-write` is not reached, for 1.5 s.
    ReplicasMissing,
    /// `SCRIPT FLUSH`.
    ScriptsFlushed,
    /// `CLIENT KILL` of all connections.
    ConnectionsKilled,
    /// Connections to Redis are reset.
    EngineCut,
    /// Connections to Redis take up to 100 ms for each piece, for 1.5 s.
    EngineDelayed,
    /// Connections to Redis drip, for 1.5 s.
    EngineDripping,
    /// Nothing gets to Redis for 6 s; then connections are reset.
    EngineLostTo,
    /// Nothing gets back from Redis for 6 s; then connections are reset.
    EngineLostFrom,
    /// Neither, for 2 s; then all that was held back arrives.
    EngineApart,
    /// The first hub does not reach Redis for 3 s; then all that was held back arrives.
    HubApart,
    /// As above, and `FLUSHALL` meanwhile.
    HubApartEmptied,
    /// As above, and an older copy meanwhile.
    HubApartOlder,
    /// The first hub does not reach Redis for 3.5 s behind a restart of Redis, through which it
    /// alone has run: the other one is killed, starts with Redis, and has to wait for the first one
    /// to vouch for the log.
    HubApartRestarted,
    /// A replica takes over, and the first hub stays with the former master for some time.
    SplitBrain,
    /// The master and one hub are cut off from the replica and the other hub. The master refuses
    /// writes (`min-replicas-to-write`), then the replica takes over, and later the first hub finds
    /// it.
    SplitBrainRefused,
    /// Connections of clients are reset, five times.
    ClientsCut,
    /// Connections of clients take up to 100 ms for each piece, for 1.5 s.
    ClientsDelayed,
    /// Connections of clients drip in both directions, for 1.5 s.
    ClientsDripping,
    /// Nothing gets to hubs for 4 s; then connections are reset.
    ClientsLostTo,
    /// Nothing gets to clients for 4 s; then connections are reset.
    ClientsLostFrom,
}

impl Mechanism {
    /// As in the names of scenarios.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::HubKilled => "hub-killed",
            Self::HubsKilled => "hubs-killed",
            Self::HubStopped => "hub-stopped",
            Self::HubRestarted => "hub-restarted",
            Self::HubLeftBehind => "hub-left-behind",
            Self::HubAway => "hub-away",
            Self::HubKilledBehindNginx => "hub-killed-behind-nginx",
            Self::RollingRestart => "rolling-restart",
            Self::RollingUpgrade => "rolling-upgrade",
            Self::FormatRaised => "format-raised",
            Self::HubTakenOver => "hub-taken-over",
            Self::HubFailed => "hub-failed",
            Self::PowerCut => "power-cut",
            Self::RedisKilled => "redis-killed",
            Self::RedisRestarted => "redis-restarted",
            Self::RedisStopped => "redis-stopped",
            Self::RedisStoppedLong => "redis-stopped-6s",
            Self::RedisEmptied => "redis-emptied",
            Self::RedisOlder => "redis-older",
            Self::RedisOlderEpoch => "redis-older-epoch",
            Self::RedisOlderCold => "redis-older-cold",
            Self::RedisOlderTwice => "redis-older-twice",
            Self::RedisEmptiedTwice => "redis-emptied-twice",
            Self::FailedOver => "failed-over",
            Self::FailedOverLagging => "failed-over-lagging",
            Self::MasterDemoted => "master-demoted",
            Self::ClusterFailedOver => "cluster-failed-over",
            Self::ClusterMasterKilled => "cluster-master-killed",
            Self::SlotMoved => "slot-moved",
            Self::RedisPaused => "redis-paused",
            Self::RedisFull => "redis-full",
            Self::ReplicasMissing => "replicas-missing",
            Self::ScriptsFlushed => "scripts-flushed",
            Self::ConnectionsKilled => "connections-killed",
            Self::EngineCut => "engine-cut",
            Self::EngineDelayed => "engine-delayed",
            Self::EngineDripping => "engine-dripping",
            Self::EngineLostTo => "engine-lost-to",
            Self::EngineLostFrom => "engine-lost-from",
            Self::EngineApart => "engine-apart",
            Self::HubApart => "hub-apart",
            Self::HubApartEmptied => "hub-apart-emptied",
            Self::HubApartOlder => "hub-apart-older",
            Self::HubApartRestarted => "hub-apart-restarted",
            Self::SplitBrain => "split-brain",
            Self::SplitBrainRefused => "split-brain-refused",
            Self::ClientsCut => "clients-cut",
            Self::ClientsDelayed => "clients-delayed",
            Self::ClientsDripping => "clients-dripping",
            Self::ClientsLostTo => "clients-lost-to",
            Self::ClientsLostFrom => "clients-lost-from",
        }
    }

    /// What it needs.
    pub(crate) fn setup(self) -> Setup {
        let has_replica = matches!(
            self,
            Self::FailedOver
                | Self::FailedOverLagging
                | Self::MasterDemoted
                | Self::SplitBrain
                | Self::SplitBrainRefused
        );
        let events_max = self.kept_min().map(|kept| kept as u32);
        let has_balancer = matches!(self, Self::HubKilledBehindNginx | Self::RollingRestart);
        Setup {
            has_replica,
            has_cluster: matches!(
                self,
                Self::ClusterFailedOver | Self::ClusterMasterKilled | Self::SlotMoved
            ),
            events_max,
            has_balancer,
            has_one_replay: self == Self::RedisOlderTwice,
            has_clock_behind: self == Self::RedisEmptiedTwice,
            version: if self == Self::RollingUpgrade { Version::Earlier } else { Version::Present },
            has_fragile_disk: self == Self::PowerCut,
            sync_time: Duration::ZERO,
            inject: None,
        }
    }

    /// Versions of the hub beside the one under test.
    pub(crate) fn versions(self) -> &'static [Version] {
        match self {
            Self::RollingUpgrade => &[Version::Earlier, Version::Later { writes: 1 }],
            Self::FormatRaised => &[Version::Later { writes: 2 }],
            _ => &[],
        }
    }

    /// How many events the log keeps at least, if it does not keep all.
    pub(crate) fn kept_min(self) -> Option<usize> {
        matches!(self, Self::HubLeftBehind | Self::HubAway).then_some(300)
    }

    /// Whether the engine may lose what it had acknowledged.
    pub(crate) fn loses(self) -> bool {
        matches!(
            self,
            Self::RedisEmptied
                | Self::RedisOlder
                | Self::RedisOlderEpoch
                | Self::RedisOlderCold
                | Self::RedisOlderTwice
                | Self::RedisEmptiedTwice
                | Self::HubApartEmptied
                | Self::HubApartOlder
                | Self::SplitBrain
                | Self::FailedOver
                | Self::FailedOverLagging
                | Self::ClusterMasterKilled
        )
    }

    /// Some time before it strikes.
    pub(crate) async fn prepare(self, bed: &mut Bed, traffic: &mut Traffic) {
        match self {
            Self::RedisOlderTwice => {
                traffic.subscribe_streams(BUSY[0], 16).await;
                traffic.publish_backlog(0, 3_000).await;
                bed.back_up();
            }
            Self::RollingRestart => traffic.subscribe_streams(QUIET, STREAMS).await,
            // So that some are at each hub.
            Self::HubKilledBehindNginx => traffic.subscribe_streams(QUIET, 8).await,
            Self::RedisOlder
            | Self::RedisOlderEpoch
            | Self::RedisOlderCold
            | Self::HubApartOlder => bed.back_up(),
            Self::SplitBrainRefused => {
                for (setting, value) in
                    [("min-replicas-max-lag", "1"), ("min-replicas-to-write", "1")]
                {
                    bed.command(&["CONFIG", "SET", setting, value]);
                }
            }
            Self::FailedOverLagging => {
                // What is on its way to the replica arrives before.
                bed.kept_us = bed.recorder.now_us().saturating_sub(REPLICATED.as_micros() as u64);
                let link = bed.replica_link.as_ref().expect("a replica");
                link.set(Direction::ToClient, Flow::Hold);
            }
            _ => return,
        }
        assert!(traffic.acknowledged(20).await, "publishing goes on");
        if self == Self::RedisOlderEpoch {
            bed.note("FLUSHALL");
            bed.command(&["FLUSHALL"]);
            self.note_loss(bed, 0);
            assert!(traffic.acknowledged(20).await, "publishing goes on in another epoch");
        }
    }

    /// What was acknowledged before `since_us` is kept.
    fn note_loss(self, bed: &Bed, since_us: u64) {
        let (what, must) = (self.name().to_owned(), self.is_noticed());
        bed.recorder.note(Record::Loss { what, since_us, must });
    }

    /// Breaks it, and mends it.
    pub(crate) async fn strike(self, bed: &mut Bed, traffic: &mut Traffic, moment: Moment) {
        bed.note(self.name());
        let disconnects = self.expect_effects(bed, moment).await;
        match self {
            Self::RollingRestart => rolling::restart_each(bed).await,
            Self::RollingUpgrade => upgrades::upgrade_and_back(bed, traffic).await,
            Self::FormatRaised => upgrades::raise_format(bed, traffic).await,
            Self::HubKilled | Self::HubKilledBehindNginx => {
                bed.hubs[0].kill().await;
                sleep(SHORT).await;
                self.start_first(bed, traffic).await;
            }
            Self::HubsKilled => {
                for hub in &mut bed.hubs {
                    hub.kill().await;
                }
                sleep(SHORT).await;
                start_all(bed, traffic).await;
            }
            Self::PowerCut => {
                let disk = bed.fragile.as_ref().expect("a scenario with one");
                disk.stop_soon();
                // An idle hub calls nothing.
                disk.stopped_within(SHORT).await;
                bed.hubs[0].cut_power(disk, &bed.recorder).await;
                self.start_first(bed, traffic).await;
            }
            Self::HubStopped => {
                bed.hubs[0].signal(Signal::STOP);
                sleep(LONG).await;
                bed.hubs[0].signal(Signal::CONT);
            }
            Self::HubRestarted => {
                bed.hubs[0].signal(Signal::TERM);
                let code = bed.hubs[0].ended().await;
                expect_code(bed, code, Some(0));
                self.start_first(bed, traffic).await;
            }
            Self::HubLeftBehind => {
                bed.hubs[0].signal(Signal::STOP);
                traffic.publish_backlog(1, 100).await;
                bed.hubs[0].signal(Signal::CONT);
                let deadline = Instant::now() + PATIENCE;
                while bed.hubs[0].metric(FELL_OFF).await.is_none_or(|times| times < 1.0) {
                    assert!(Instant::now() < deadline, "the hub has missed nothing");
                    sleep(Duration::from_millis(20)).await;
                }
            }
            Self::HubAway => {
                let before = traffic.last_acked().expect("publishes were acknowledged");
                bed.hubs[0].kill().await;
                traffic.publish_backlog(1, 100).await;
                self.start_first(bed, traffic).await;
                let reason = bed.hubs[0].gap_reason(&before).await;
                assert_eq!(reason.as_deref(), Some("evicted"), "a client that comes from {before}");
            }
            Self::HubTakenOver => {
                let code = bed.hubs[0].take_over().await;
                expect_code(bed, code, Some(0));
                traffic.has_first_hub_restarted = true;
            }
            Self::HubFailed => {
                let code = bed.hubs[0].ended().await;
                expect_code(bed, code, Some(1));
                self.start_first(bed, traffic).await;
            }
            Self::RedisKilled => {
                block_in_place(|| bed.redis.as_mut().expect("Redis").kill());
                // An answer that is held back on the way is lost with it.
                cut_engine(bed);
                sleep(LONG).await;
                block_in_place(|| bed.redis.as_mut().expect("Redis").start_again());
            }
            Self::RedisRestarted => {
                block_in_place(|| bed.redis.as_mut().expect("Redis").terminate());
                cut_engine(bed);
                sleep(SHORT).await;
                block_in_place(|| bed.redis.as_mut().expect("Redis").start_again());
            }
            Self::RedisStopped | Self::RedisStoppedLong => {
                bed.redis().pause();
                sleep(if self == Self::RedisStopped { LONG } else { BEYOND_LIMITS }).await;
                bed.redis().resume();
            }
            Self::RedisEmptied => drop(bed.command(&["FLUSHALL"])),
            Self::RedisOlder | Self::RedisOlderEpoch => {
                block_in_place(|| bed.redis.as_mut().expect("Redis").put_back());
            }
            Self::RedisOlderCold => {
                for hub in &mut bed.hubs {
                    hub.kill().await;
                }
                block_in_place(|| bed.redis.as_mut().expect("Redis").put_back());
                start_all(bed, traffic).await;
            }
            Self::RedisOlderTwice => self.put_back_twice(bed, traffic).await,
            Self::RedisEmptiedTwice => {
                for (loser, winner) in [(1, 0), (0, 1)] {
                    bed.hubs[loser].signal(Signal::STOP);
                    bed.command(&["FLUSHALL"]);
                    if winner == 0 {
                        self.note_loss(bed, 0);
                    }
                    let is_alive = traffic.acknowledged(10).await;
                    bed.hubs[loser].signal(Signal::CONT);
                    assert!(is_alive, "the other hub takes publishes");
                    sleep(LONG).await;
                }
            }
            Self::FailedOver | Self::FailedOverLagging => self.fail_over(bed),
            Self::MasterDemoted => Self::change_roles(bed).await,
            Self::ClusterFailedOver | Self::ClusterMasterKilled | Self::SlotMoved => {
                if self == Self::ClusterMasterKilled {
                    bed.kept_us =
                        bed.recorder.now_us().saturating_sub(REPLICATED.as_micros() as u64);
                }
                let cluster = bed.cluster.as_mut().expect("a cluster");
                block_in_place(|| self.strike_cluster(cluster));
            }
            Self::RedisPaused => {
                // It closes the connection of this command behind the pause.
                bed.command(&["CLIENT", "PAUSE", "1500", "ALL"]);
            }
            Self::RedisFull | Self::ReplicasMissing => {
                let is_full = self == Self::RedisFull;
                let setting = if is_full { "maxmemory" } else { "min-replicas-to-write" };
                bed.command(&["CONFIG", "SET", setting, "1"]);
                // Appends that are held back meet it.
                bed.engine_flow(Direction::ToServer, Flow::Pass);
                sleep(LONG).await;
                bed.command(&["CONFIG", "SET", setting, "0"]);
            }
            Self::ScriptsFlushed => drop(bed.command(&["SCRIPT", "FLUSH"])),
            Self::ConnectionsKilled => {
                bed.command(&["CLIENT", "KILL", "TYPE", "normal"]);
                cut_engine(bed);
            }
            Self::EngineCut => cut_engine(bed),
            Self::EngineDelayed => self.disturb(bed, Flow::Delay(DELAY_MAX)).await,
            Self::EngineDripping => self.disturb(bed, Flow::Drip(500)).await,
            Self::EngineLostTo | Self::EngineLostFrom | Self::EngineApart => {
                let (to, from) = match self {
                    Self::EngineLostTo => (Flow::Hold, Flow::Pass),
                    Self::EngineLostFrom => (Flow::Pass, Flow::Hold),
                    _ => (Flow::Hold, Flow::Hold),
                };
                bed.engine_flow(Direction::ToServer, to);
                bed.engine_flow(Direction::ToClient, from);
                let is_apart = self == Self::EngineApart;
                sleep(if is_apart { Duration::from_secs(2) } else { BEYOND_LIMITS }).await;
                if !is_apart {
                    cut_engine(bed);
                }
                pass_engine(bed);
            }
            Self::HubApart | Self::HubApartEmptied | Self::HubApartOlder => {
                self.keep_apart(bed, traffic).await;
            }
            Self::HubApartRestarted => {
                bed.hubs[1].kill().await;
                let set = |bed: &Bed, flow| {
                    let link = bed.hubs[0].engine.as_ref().expect("Redis");
                    link.set(Direction::ToServer, flow);
                    link.set(Direction::ToClient, flow);
                };
                set(bed, Flow::Hold);
                block_in_place(|| bed.redis.as_mut().expect("Redis").terminate());
                block_in_place(|| bed.redis.as_mut().expect("Redis").start_again());
                let recorder = bed.recorder.clone();
                let (alone, other) = bed.hubs.split_at_mut(1);
                let link = alone[0].engine.as_ref().expect("Redis");
                tokio::join!(other[0].start_again(&recorder), async {
                    sleep(Duration::from_millis(3_500)).await;
                    link.cut();
                    link.set(Direction::ToServer, Flow::Pass);
                    link.set(Direction::ToClient, Flow::Pass);
                });
            }
            Self::SplitBrain => self.split(bed, traffic).await,
            Self::SplitBrainRefused => Self::split_and_refuse(bed, traffic).await,
            Self::ClientsCut => {
                for _ in 0..5 {
                    bed.hubs.iter().for_each(|hub| hub.front.cut());
                    sleep(SHORT).await;
                }
            }
            Self::ClientsDelayed => self.disturb(bed, Flow::Delay(DELAY_MAX)).await,
            Self::ClientsDripping => self.disturb(bed, Flow::Drip(100)).await,
            Self::ClientsLostTo | Self::ClientsLostFrom => {
                let direction = match self {
                    Self::ClientsLostTo => Direction::ToServer,
                    _ => Direction::ToClient,
                };
                // A poll without an answer shows the fault only behind one that had an answer.
                traffic.await_polled().await;
                bed.front_flow(direction, Flow::Hold);
                sleep(Duration::from_secs(4)).await;
                bed.hubs.iter().for_each(|hub| hub.front.cut());
                // Otherwise a held request may pass before its connection is cut.
                sleep(SHORT).await;
                bed.front_flow(direction, Flow::Pass);
            }
        }
        if self.loses() {
            self.note_loss(bed, bed.kept_us);
        }
        bed.note("mended");
        if self.comes_back() {
            // The moment's own hindrance goes with the fault: Redis is there again.
            pass_engine(bed);
            // One that drains takes none.
            let first = usize::from(moment == Moment::Drain);
            traffic.recover(bed, first, RECOVERY_MS_MAX).await;
        }
        Self::await_disconnects(bed, &disconnects).await;
    }

    async fn start_first(self, bed: &mut Bed, traffic: &mut Traffic) {
        pass_engine(bed);
        bed.hubs[0].start_again(&bed.recorder).await;
        traffic.has_first_hub_restarted = true;
    }

    /// The second time, clients of the first gap wait for permission to read what there is, and
    /// loading takes seconds.
    async fn put_back_twice(self, bed: &mut Bed, traffic: &Traffic) {
        let gaps = traffic.gaps();
        bed.front_flow(Direction::ToClient, Flow::Drip(20_000));
        block_in_place(|| bed.redis.as_mut().expect("Redis").put_back());
        self.note_loss(bed, bed.kept_us);
        traffic.await_gaps(gaps + 1).await;
        bed.back_up();
        assert!(traffic.acknowledged(3).await, "publishing goes on in another epoch");
        bed.front_flow(Direction::ToClient, Flow::Hold);
        sleep(SHORT).await;
        bed.engine_flow(Direction::ToClient, Flow::Drip(4_000));
        block_in_place(|| bed.redis.as_mut().expect("Redis").put_back());
        sleep(2 * LONG).await;
        bed.engine_flow(Direction::ToClient, Flow::Pass);
        bed.front_flow(Direction::ToClient, Flow::Pass);
    }

    async fn keep_apart(self, bed: &mut Bed, traffic: &Traffic) {
        let set = |bed: &Bed, flow| {
            let link = bed.hubs[0].engine.as_ref().expect("Redis");
            link.set(Direction::ToServer, flow);
            link.set(Direction::ToClient, flow);
        };
        set(bed, Flow::Hold);
        sleep(SHORT).await;
        match self {
            Self::HubApartEmptied => drop(bed.command(&["FLUSHALL"])),
            Self::HubApartOlder => {
                block_in_place(|| bed.redis.as_mut().expect("Redis").put_back());
            }
            _ => {}
        }
        assert!(traffic.acknowledged(10).await, "the other hub takes publishes");
        sleep(2 * LONG).await;
        set(bed, Flow::Pass);
    }

    async fn disturb(self, bed: &Bed, flow: Flow) {
        for flow in [flow, Flow::Pass] {
            for direction in [Direction::ToServer, Direction::ToClient] {
                match self {
                    Self::EngineDelayed | Self::EngineDripping => bed.engine_flow(direction, flow),
                    _ => bed.front_flow(direction, flow),
                }
            }
            if flow != Flow::Pass {
                sleep(LONG).await;
            }
        }
    }
}

async fn start_all(bed: &mut Bed, traffic: &mut Traffic) {
    pass_engine(bed);
    for hub in &mut bed.hubs {
        hub.start_again(&bed.recorder).await;
    }
    traffic.has_first_hub_restarted = true;
}

/// A hub does not start without Redis.
fn pass_engine(bed: &Bed) {
    bed.engine_flow(Direction::ToServer, Flow::Pass);
    bed.engine_flow(Direction::ToClient, Flow::Pass);
}

fn cut_engine(bed: &Bed) {
    for link in bed.hubs.iter().filter_map(|hub| hub.engine.as_ref()) {
        link.cut();
    }
}

fn expect_code(bed: &Bed, code: Option<i32>, wanted: Option<i32>) {
    if code != wanted {
        let what = format!("a hub ends with {code:?}, not {wanted:?} (within {PATIENCE:?})");
        bed.recorder.note(Record::Odd { what });
    }
}

/// Beside those of every scenario. A hub takes 20 ms for each stream on a shard, if the window
/// allows for that.
const STREAMS: usize = 200;
pub(crate) const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_millis(1_500);
/// A hub waits 5 s for an answer of Redis.
const BEYOND_LIMITS: Duration = Duration::from_secs(6);
/// What was acknowledged so long ago has come to a replica that is connected.
pub(crate) const REPLICATED: Duration = Duration::from_secs(1);
/// A hub takes publishes so soon after Redis does.
const RECOVERY_MS_MAX: u64 = 2_000;
const FELL_OFF: &str = r#"visnyk_backend_changes_total{reason="fell_off"}"#;
const DELAY_MAX: Duration = Duration::from_millis(100);
