//! A master that is killed or becomes a replica, and its replica that takes over.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::RedisServer;

use super::hubs::{MovingAddress, epoch, hub_on, publish_when_back, try_publish};
use crate::support::{PATIENCE, TestHub, data_of, seq};

/// A replica gets its copy at once.
const SOON: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

/// A replica of a server.
fn replica_of(master: &RedisServer) -> RedisServer {
    let port = master.address().port().to_string();
    RedisServer::start(&["--replicaof", "127.0.0.1", &port])
}

/// Publishes until that is accepted. The first one may be on its way to the master that was killed,
/// which leaves its outcome open: it is in no log then.
async fn publish_at_the_next_master(hub: &TestHub, data: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = try_publish(hub, data).await;
        match answer.status() {
            201 => return answer.json()["id"].as_str().expect("a position").to_owned(),
            503 | 504 => assert!(Instant::now() < deadline, "{}\n{}", answer.body, hub.stderr()),
            status => panic!("{status}: {}", answer.body),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a server says something.
async fn says(server: &RedisServer, command: &[&str], text: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = server.command(command);
        if said.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "{command:?}: {said}, without {text:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_follow_the_master_that_a_sentinel_names() {
    let mut master = RedisServer::start(&[]);
    let replica = replica_of(&master);
    let sentinel = master.sentinel("main");
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.address().port());
    let settings = [
        ("backend.url", url.as_str()),
        ("limits.publish.wait_ms", "300"),
        ("limits.publish.outcome_wait_ms", "1500"),
    ];
    let hub = hub_on(&master, &settings).await;
    let mut stream = hub.stream("channel=a", "now").await;
    let first = hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    says(&replica, &["XLEN", "{visnyk}:log"], ":1").await;
    let port = replica.address().port().to_string();
    says(&sentinel, &["SENTINEL", "replicas", "main"], &port).await;
    master.kill();
    // The replica has all: nothing changes for subscribers.
    let second = publish_at_the_next_master(&hub, "2").await;
    assert_eq!((epoch(&second), seq(&second)), (epoch(&first), seq(&first) + 1));
    assert_eq!(data_of(&mut stream, 1).await, ["2"]);
    assert!(replica.command(&["XLEN", "{visnyk}:log"]).contains(":2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_becomes_a_replica_is_left_though_its_connections_stay() {
    let master = RedisServer::start(&SOON);
    let replica = replica_of(&master);
    let address = MovingAddress::of(&master).await;
    let hub = hub_on(&master, &[("backend.url", &address.url())]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    let first = hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    says(&replica, &["XLEN", "{visnyk}:log"], ":1").await;
    // Redis ends connections of commands that wait, and leaves others. So the change comes when the
    // last read of the hub has been answered.
    hub.signal(Signal::STOP).expect("it runs");
    says(&master, &["INFO", "clients"], "blocked_clients:0").await;
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    let port = replica.address().port().to_string();
    master.command(&["REPLICAOF", "127.0.0.1", &port]);
    address.lead_to(&replica);
    hub.signal(Signal::CONT).expect("it is stopped");
    let second = publish_when_back(&hub, "2").await;
    assert_eq!((epoch(&second), seq(&second)), (epoch(&first), seq(&first) + 1));
    assert_eq!(data_of(&mut stream, 1).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_warns_of_a_master_that_takes_writes_without_its_replicas() {
    let guarded = [&SOON[..], &["--min-replicas-to-write", "1"]].concat();
    for (settings, has_replica, warns) in
        [(&SOON[..], true, true), (&guarded[..], true, false), (&SOON[..], false, false)]
    {
        let master = RedisServer::start(settings);
        let _replica = has_replica.then(|| replica_of(&master));
        if has_replica {
            says(&master, &["INFO", "replication"], "state=online").await;
        }
        let hub = hub_on(&master, &[]).await;
        let warned = hub.stderr().contains("takes writes without them");
        assert_eq!(warned, warns, "{settings:?}: {}", hub.stderr());
    }
}
