//! The server is away, or does not answer: subscribers stay, publishers learn what is true, and all
//! that is acknowledged is delivered after.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use visnyk_loadtest::RedisServer;

use super::hubs::{hub_on, publish_when_back, try_publish};
use crate::support::{PATIENCE, data_of, seq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_subscribers_stay_and_publishes_are_refused() {
    let mut server = RedisServer::start(&[]);
    let settings = [("limits.publish.wait_ms", "300"), ("limits.connections.heartbeat_s", "1")];
    let hubs = [hub_on(&server, &settings).await, hub_on(&server, &settings).await];
    let mut stream = hubs[1].stream("channel=a", "now").await;
    hubs[0].publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    for round in 2..=3 {
        server.kill();
        for hub in &hubs {
            let refused = try_publish(hub, "refused").await;
            assert_eq!(refused.status(), 503, "{}", refused.body);
            assert!(refused.body.contains("nothing was published"), "{}", refused.body);
            hub.wait_for_metric("visnyk_backend_connected", |connected| connected == 0.0).await;
            assert_eq!(hub.get("/readyz").await.status(), 200, "its subscribers are served");
        }
        let heartbeat = stream.next_block(PATIENCE).await.expect("it stays").expect("it goes on");
        assert_eq!(heartbeat.data, None);
        let begun = Instant::now();
        server.start_again();
        let data = round.to_string();
        publish_when_back(&hubs[0], &data).await;
        // Its own start is part of it. The bound of a quiet machine is 2 s.
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert_eq!(data_of(&mut stream, 1).await, [data]);
    }
    assert!(hubs[0].metric("visnyk_backend_disconnects_total").await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_holds_a_publish_up_and_others_are_refused() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[("limits.publish.wait_ms", "300")]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "1").await;
    server.pause();
    let (held, behind, ()) = tokio::join!(
        try_publish(&hub, "2"),
        async {
            sleep(Duration::from_millis(100)).await;
            try_publish(&hub, "refused").await
        },
        async {
            sleep(Duration::from_millis(1_500)).await;
            server.resume();
        }
    );
    assert_eq!((held.status(), behind.status()), (201, 503), "{}", behind.body);
    hub.publish("a", "3").await;
    assert_eq!(data_of(&mut stream, 3).await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_to_a_server_that_died_has_an_unknown_outcome() {
    let mut server = RedisServer::start(&[]);
    let settings = [("limits.publish.wait_ms", "300"), ("limits.publish.outcome_wait_ms", "1500")];
    let hub = hub_on(&server, &settings).await;
    let mut stream = hub.stream("channel=a", "now").await;
    let first = hub.publish("a", "1").await;
    server.pause();
    let (unknown, ()) = tokio::join!(try_publish(&hub, "2"), async {
        sleep(Duration::from_millis(200)).await;
        server.kill();
    });
    assert_eq!(unknown.status(), 504, "{}", unknown.body);
    assert_eq!(unknown.json()["type"], "outcome-unknown");
    server.start_again();
    let next = publish_when_back(&hub, "3").await;
    // It had not read it.
    assert_eq!(seq(&next), seq(&first) + 1);
    assert_eq!(data_of(&mut stream, 2).await, ["1", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_fails_is_started_again() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[]).await;
    let mut stream = hub.stream("channel=a", "now").await;
    hub.publish("a", "1").await;
    hub.plant("bridge").await;
    hub.wait_for_metric(r#"visnyk_restarts_total{reason="bridge"}"#, |restarts| restarts == 1.0)
        .await;
    publish_when_back(&hub, "2").await;
    assert_eq!(data_of(&mut stream, 2).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_the_log_without_an_answer_is_given_up_as_soon_as_a_wait_for_entries() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[]).await;
    hub.publish("a", "1").await;
    // Reads are answered, and scripts wait.
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let begun = Instant::now();
    hub.wait_for_metric("visnyk_backend_connected", |connected| connected == 0.0).await;
    // A hub that starts waits for as long for it to vouch for the log. Other commands have five
    // seconds.
    assert!(begun.elapsed() < Duration::from_millis(4_500), "{:?}", begun.elapsed());
    server.command(&["CLIENT", "UNPAUSE"]);
    publish_when_back(&hub, "2").await;
}
