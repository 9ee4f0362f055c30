//! Hubs that start when no other one lives, on a server that may have lost what they showed before.

use visnyk_loadtest::RedisServer;

use super::hubs::{epoch, gap_of, hub_on, position_at_end, publish_when_back};
use crate::support::{data_of, seq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_under_hubs_that_start_anew_is_a_gap_and_no_seq_is_given_out_twice() {
    let mut server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[]).await;
    hub.publish("a", "1").await;
    server.back_up();
    let lost = hub.publish("a", "2").await;
    drop(hub);
    server.put_back();
    let hub = hub_on(&server, &[]).await;
    let after = publish_when_back(&hub, "3").await;
    assert_ne!(epoch(&after), epoch(&lost), "a seq means one event in an epoch: {lost} {after}");
    let (gap, mut stream) = gap_of(&hub, &lost).await;
    assert_eq!(gap["reason"], "epoch", "{gap}");
    assert_eq!(data_of(&mut stream, 2).await, ["1", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_alone_changes_nothing_and_one_of_all_changes_the_epoch_once() {
    let mut server = RedisServer::start(&["--appendfsync", "always"]);
    let hub = hub_on(&server, &[]).await;
    let first = hub.publish("a", "1").await;
    // The hub lives, and finds that all is there; so one that starts later believes it.
    server.start_again();
    let second = publish_when_back(&hub, "2").await;
    let other = hub_on(&server, &[]).await;
    assert_eq!(other.retained("channel=a", &first).await, ["2"]);
    assert_eq!(epoch(&second), epoch(&first));
    drop((hub, other));
    // Hubs alone.
    let hub = hub_on(&server, &[]).await;
    assert_eq!(hub.retained("channel=a", &first).await, ["2"]);
    drop(hub);
    // All: nothing tells what the server has lost.
    server.start_again();
    let hubs = [hub_on(&server, &[]).await, hub_on(&server, &[]).await];
    let (gap, mut stream) = gap_of(&hubs[0], &second).await;
    assert_eq!(gap["reason"], "epoch", "{gap}");
    assert_eq!(data_of(&mut stream, 2).await, ["1", "2"]);
    let third = hubs[0].publish("a", "3").await;
    assert_eq!(hubs[1].retained("channel=a", &third).await, [""; 0]);
    assert!(seq(&third) > seq(&second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_from_before_the_last_change_of_epoch_changes_it_again() {
    let mut server = RedisServer::start(&[]);
    let hubs = [hub_on(&server, &[]).await, hub_on(&server, &[]).await];
    let first = hubs[0].publish("a", "1").await;
    server.back_up();
    // Before the hub can have noticed that the server is empty: then it would not end.
    let stream = hubs[1].stream("channel=a", &first).await;
    server.command(&["FLUSHALL"]);
    let end = position_at_end(stream).await;
    assert_eq!(end, first);
    let second = publish_when_back(&hubs[0], "2").await;
    assert_ne!(epoch(&second), epoch(&first));
    let (_, mut stream) = gap_of(&hubs[1], &first).await;
    assert_eq!(data_of(&mut stream, 1).await, ["2"]);
    server.put_back();
    assert_eq!(position_at_end(stream).await, second);
    for hub in &hubs {
        let (gap, mut stream) = gap_of(hub, &second).await;
        assert_eq!(gap["reason"], "epoch", "{gap}");
        assert_eq!(data_of(&mut stream, 1).await, ["1"]);
        let oldest = gap["oldest"].as_str().expect("a position");
        assert!(![epoch(&first), epoch(&second)].contains(&epoch(oldest)), "{gap}");
    }
    let third = publish_when_back(&hubs[0], "3").await;
    assert!(seq(&third) > seq(&second), "{second} {third}");
}
