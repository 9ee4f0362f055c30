//! Hubs on a Redis Cluster: they follow the master that has the slot of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep};
use visnyk_loadtest::{HubCommand, RedisCluster, RedisServer};

use super::access::{COMMANDS, set_user};
use super::hubs::{epoch, try_publish};
use super::tls::TlsServer;
use crate::support::{PATIENCE, TestHub, data_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn hubs_follow_the_master_of_the_slot_through_failovers_and_a_migration() {
    let mut cluster = block_in_place(|| RedisCluster::start("{visnyk}:log"));
    let first = block_in_place(|| cluster.master());
    let others: Vec<usize> = (0..3).filter(|node| *node != first).collect();
    // The nodes that the address names do not have the log.
    let settings = [
        ("backend.url", &*cluster.url(&others)),
        ("backend.counts_interval_ms", "200"),
        ("limits.publish.wait_ms", "300"),
    ];
    let hubs = [start(&settings).await, start(&settings).await];
    let mut streams = Vec::new();
    for hub in &hubs {
        streams.push(hub.stream("channel=a", "now").await);
    }
    let load = Load::start(&hubs);
    load.acknowledged(20).await;
    let begun = last_id(&hubs[0]).await;

    // The replica is promoted while publishes are under way; the former master becomes its replica.
    block_in_place(|| cluster.fail_over(3));
    load.acknowledged(20).await;
    block_in_place(|| cluster.await_replica(first));

    // That one is killed. What the replica had not received would be lost, so nothing is under way.
    let paused = load.gate.lock().await;
    let received = block_in_place(|| cluster.command(3, &["WAIT", "1", "5000"]));
    assert!(received.starts_with(":1"), "{received}");
    block_in_place(|| cluster.node(3).kill());
    drop(paused);
    load.acknowledged(20).await;
    assert_eq!(block_in_place(|| cluster.master()), first);
    block_in_place(|| cluster.node(3).start_again());

    // The slot moves to another master. While it is at neither as a whole, publishes are refused
    // and subscribers stay.
    let next = others[0];
    block_in_place(|| cluster.begin_migration(first, next));
    block_in_place(|| cluster.migrate(first, next, "{visnyk}:log"));
    assert_eq!(try_publish(&hubs[0], "refused").await.status(), 503);
    hubs[1].wait_for_metric("visnyk_backend_connected", |connected| connected == 0.0).await;
    block_in_place(|| cluster.end_migration(first, next));
    load.acknowledged(20).await;
    assert_eq!(block_in_place(|| cluster.master()), next);

    let sent = load.end().await;
    assert_eq!(epoch(&last_id(&hubs[0]).await), epoch(&begun), "nothing was lost");
    let wanted: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
    for (hub, stream) in hubs.iter().zip(&mut streams) {
        // Over one connection: no stream has ended.
        assert_eq!(data_of(stream, sent).await, wanted, "{}", hub.stderr());
    }
    for hub in &hubs {
        hub.wait_for_channel("a", |info| {
            info["counted"]["hubs"] == 2 && info["counted"]["complete"] == true
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_asked_over_tls_and_as_the_user() {
    let tls = TlsServer::start(&["--cluster-enabled", "yes"]);
    let TlsServer { server, port, certificate, .. } = &tls;
    let password = tls.file("password", "hunter2");
    assert!(server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).starts_with("+OK"));
    set_user(server, &COMMANDS);
    let url = format!("rediss+cluster://localhost:{port}");
    let mut settings = vec![("backend.url", &*url), ("backend.ca_file", &**certificate)];
    settings.extend([("backend.user", "visnyk"), ("backend.password_file", &*password)]);
    let hub = start(&settings).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    // Without a password it rejects the question, too.
    assert!(server.command(&["ACL", "SETUSER", "default", "off"]).starts_with("+OK"));
    let error = refused(&settings[..2]).await;
    assert!(error.contains("NOAUTH") && !error.contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_and_a_single_server_are_told_apart() {
    let node = RedisServer::start(&["--cluster-enabled", "yes"]);
    let error = refused(&[("backend.url", &node.url())]).await;
    assert!(error.contains("a node of a cluster: give the address as redis+cluster://"), "{error}");
    let single = RedisServer::start(&[]);
    let url = single.url().replace("redis:", "redis+cluster:");
    let error = refused(&[("backend.url", &url)]).await;
    assert!(error.contains("not a node of a cluster: give its address as redis://"), "{error}");
}

async fn start(settings: &[(&str, &str)]) -> Arc<TestHub> {
    Arc::new(TestHub::start(&[&[("shards", "2")], settings].concat()).await)
}

async fn refused(settings: &[(&str, &str)]) -> String {
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).settings(settings);
    command.start().await.expect_err("it does not start").to_string()
}

async fn last_id(hub: &TestHub) -> String {
    hub.channel("a").await["last_id"].as_str().expect("a position").to_owned()
}

/// A publisher of numbers, each once and in their order: it repeats what is refused, or has an
/// unknown outcome, under the same key at the other hub.
struct Load {
    acked: Arc<AtomicUsize>,
    /// Held while a publish is under way.
    gate: Arc<Mutex<()>>,
    publisher: JoinHandle<()>,
}

impl Load {
    fn start(hubs: &[Arc<TestHub>; 2]) -> Self {
        let (acked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(())));
        let publisher =
            tokio::spawn(publish_on(hubs.clone(), Arc::clone(&acked), Arc::clone(&gate)));
        Self { acked, gate, publisher }
    }

    async fn acknowledged(&self, more: usize) {
        let acked = || self.acked.load(Ordering::SeqCst);
        let (wanted, deadline) = (acked() + more, Instant::now() + PATIENCE);
        while acked() < wanted {
            assert!(
                Instant::now() < deadline && !self.publisher.is_finished(),
                "{} of {wanted}",
                acked()
            );
            sleep(LOOK).await;
        }
    }

    /// How many have been acknowledged.
    async fn end(self) -> usize {
        let _gate = self.gate.lock().await;
        self.publisher.abort();
        self.acked.load(Ordering::SeqCst)
    }
}

async fn publish_on(hubs: [Arc<TestHub>; 2], acked: Arc<AtomicUsize>, gate: Arc<Mutex<()>>) {
    for attempt in 0.. {
        let open = gate.lock().await;
        let number = acked.load(Ordering::SeqCst).to_string();
        let key = [("Idempotency-Key", &*number)];
        let answer =
            hubs[attempt % 2].request("POST", "/v1/channels/a/events", &key, &number).await;
        match answer.status() {
            201 => drop(acked.fetch_add(1, Ordering::SeqCst)),
            503 | 504 => {}
            status => panic!("{status} {}", answer.body),
        }
        drop(open);
        sleep(Duration::from_millis(2)).await;
    }
}

const LOOK: Duration = Duration::from_millis(10);
