//! A master that is killed, and its replica that a sentinel makes the new master.

use tokio::time::{Instant, sleep};
use visnyk_loadtest::RedisServer;

use super::hubs::{epoch, hub_on, publish_when_back};
use crate::support::{PATIENCE, data_of, seq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_follow_the_master_that_a_sentinel_names() {
    let mut master = RedisServer::start(&[]);
    let port = master.address().port().to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    let sentinel = master.sentinel("main");
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.address().port());
    let hub = hub_on(&master, &[("backend.url", &url)]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    let first = hub.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    let deadline = Instant::now() + PATIENCE;
    let knows = |at: &RedisServer, command: &[&str], text: &str| at.command(command).contains(text);
    while !knows(&replica, &["XLEN", "{visnyk}:log"], ":1")
        || !knows(
            &sentinel,
            &["SENTINEL", "replicas", "main"],
            &replica.address().port().to_string(),
        )
    {
        assert!(Instant::now() < deadline, "the replica is not there");
        sleep(std::time::Duration::from_millis(50)).await;
    }
    master.kill();
    // The replica has all: nothing changes for subscribers.
    let second = publish_when_back(&hub, "2").await;
    assert_eq!((epoch(&second), seq(&second)), (epoch(&first), seq(&first) + 1));
    assert_eq!(data_of(&mut stream, 1).await, ["2"]);
    assert!(replica.command(&["XLEN", "{visnyk}:log"]).contains(":2"));
}
