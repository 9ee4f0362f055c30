//! Faults of the master: a replica takes over, two masters are there at the same time, a slot
//! moves.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::RedisCluster;

use crate::bed::{Bed, PATIENCE};
use crate::mechanism::{Mechanism, REPLICATED, SHORT};
use crate::proxy::{Direction, Flow};
use crate::traffic::Traffic;

impl Mechanism {
    /// A replica takes over, and the first hub stays with the former master for some time.
    pub(crate) async fn split(self, bed: &mut Bed, traffic: &Traffic) {
        let (replica, link) = (bed.replica.as_ref().expect("one"), bed.replica_link.as_ref());
        link.expect("its link").set(Direction::ToClient, Flow::Hold);
        block_in_place(|| replica.command(&["REPLICAOF", "NO", "ONE"]));
        for hub in [1, 0] {
            let link = bed.hubs[hub].engine.as_ref().expect("Redis");
            link.lead_to(replica.address());
            link.cut();
            assert!(traffic.acknowledged(20).await, "hubs take publishes");
        }
    }

    /// Publishing begins once the former master refuses: what it had taken in the second before
    /// could be lost.
    pub(crate) async fn split_and_refuse(bed: &mut Bed, traffic: &Traffic) {
        let received = bed.command(&["WAIT", "1", "5000"]);
        assert!(received.starts_with(":1"), "{received}");
        let (replica, link) = (bed.replica.as_ref().expect("one"), bed.replica_link.as_ref());
        let link = link.expect("its link");
        let engine = |hub: usize| bed.hubs[hub].engine.as_ref().expect("Redis");
        for cut_off in [link, engine(1)] {
            cut_off.set(Direction::ToClient, Flow::Hold);
            cut_off.set(Direction::ToServer, Flow::Hold);
        }
        let deadline = Instant::now() + PATIENCE;
        while !bed.command(&["INFO", "replication"]).contains("min_slaves_good_slaves:0") {
            assert!(Instant::now() < deadline, "the master has its replica");
            sleep(Duration::from_millis(20)).await;
        }
        traffic.go_on();
        traffic.await_refusal(0, 503).await;
        block_in_place(|| replica.command(&["REPLICAOF", "NO", "ONE"]));
        for hub in [1, 0] {
            engine(hub).lead_to(replica.address());
            engine(hub).cut();
            engine(hub).set(Direction::ToClient, Flow::Pass);
            engine(hub).set(Direction::ToServer, Flow::Pass);
            assert!(traffic.acknowledged(20).await, "hubs take publishes");
        }
    }

    /// The master and its replica change roles, and hubs find the new master at their next connect.
    pub(crate) async fn change_roles(bed: &Bed) {
        let replica = bed.replica.as_ref().expect("one");
        for hub in &bed.hubs {
            hub.engine.as_ref().expect("Redis").lead_to(replica.address());
        }
        bed.command(&["FAILOVER"]);
        let deadline = Instant::now() + PATIENCE;
        while !bed.command(&["INFO", "replication"]).contains("role:slave") {
            assert!(Instant::now() < deadline, "the master stays one");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What happens to a cluster.
    pub(crate) fn strike_cluster(self, cluster: &mut RedisCluster) {
        let first = cluster.master();
        match self {
            Self::ClusterFailedOver => {
                cluster.fail_over(3);
                cluster.await_replica(first);
                cluster.fail_over(first);
            }
            Self::ClusterMasterKilled => {
                cluster.node(first).kill();
                // Another one has the slot from here on.
                assert_ne!(cluster.master(), first);
            }
            _ => {
                let next = (first + 1) % 3;
                cluster.begin_migration(first, next);
                cluster.migrate(first, next, "{visnyk}:log");
                std::thread::sleep(SHORT);
                cluster.end_migration(first, next);
            }
        }
    }

    /// Kills Redis, and lets hubs find its replica in its stead.
    pub(crate) fn fail_over(self, bed: &mut Bed) {
        if self == Self::FailedOver {
            bed.kept_us = bed.recorder.now_us().saturating_sub(REPLICATED.as_micros() as u64);
        }
        block_in_place(|| bed.redis.as_mut().expect("Redis").kill());
        let (replica, link) = (bed.replica.as_ref().expect("one"), bed.replica_link.as_ref());
        // What was held back is lost.
        link.expect("its link").cut();
        block_in_place(|| replica.command(&["REPLICAOF", "NO", "ONE"]));
        for hub in &bed.hubs {
            let link = hub.engine.as_ref().expect("Redis");
            link.lead_to(replica.address());
            link.cut();
        }
    }
}
