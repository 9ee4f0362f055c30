//! Hubs of different roles on one log, and hubs that should have one.

use tokio::time::sleep;
use visnyk_loadtest::RedisServer;

use super::hubs::{hub_on, try_publish};
use crate::support::{TestHub, data_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_serves_subscribers_and_an_ingest_takes_publishes() {
    let mut server = RedisServer::start(&[]);
    let edge = hub_on(&server, &[("role", "edge")]).await;
    let ingest = hub_on(&server, &[("role", "ingest"), ("limits.publish.wait_ms", "300")]).await;
    let mut stream = edge.stream("channel=a", "now").await;
    ingest.publish("a", "1").await;
    assert_eq!(data_of(&mut stream, 1).await, ["1"]);
    for (hub, role, requests) in [
        (
            &edge,
            "edge",
            &[
                ("POST", "/v1/channels/a/events"),
                ("POST", "/v1/events?channel=a"),
                ("DELETE", "/v1/channels/a"),
                ("POST", "/publish"),
            ][..],
        ),
        (
            &ingest,
            "ingest",
            &[
                ("GET", "/v1/channels/a/events"),
                ("GET", "/v1/events?channel=a"),
                ("GET", "/v1/channels/a/poll"),
                ("GET", "/v1/poll?channel=a"),
                ("GET", "/subscribe"),
                ("GET", "/events"),
                ("GET", "/"),
            ],
        ),
    ] {
        for (method, target) in requests {
            let refused = hub.request(method, target, &[], "").await;
            assert_eq!(refused.status(), 421, "{method} {target} {}", refused.body);
            assert_eq!(refused.json()["role"], role, "{method} {target} {}", refused.body);
        }
        for target in ["/healthz", "/readyz", "/metrics", "/v1/channels/a", "/v1/connections"] {
            assert_eq!(hub.get(target).await.status(), 200, "{target}");
        }
    }
    server.kill();
    assert_eq!(try_publish(&ingest, "refused").await.status(), 503);
    while ingest.get("/readyz").await.status() != 503 {
        sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(edge.get("/readyz").await.status(), 200, "its subscribers have no other hub");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hubs_that_share_nothing_are_warned_of() {
    let first = TestHub::start(&[]).await;
    // By the millisecond.
    sleep(std::time::Duration::from_millis(5)).await;
    let second = TestHub::start(&[]).await;
    let position = second.publish("a", "1").await;
    let gap = first.poll_now("channel=a", &position).await;
    assert_eq!(gap["gap"]["reason"], "epoch", "{gap}");
    assert_eq!(first.metric("visnyk_foreign_positions_total").await, 1.0);
    let own = first.publish("a", "1").await;
    first.poll_now("channel=a", &own).await;
    // A position of a process before this one says nothing.
    second.poll_now("channel=a", &own).await;
    assert_eq!(first.metric("visnyk_foreign_positions_total").await, 1.0);
    assert_eq!(second.metric("visnyk_foreign_positions_total").await, 0.0);
    assert!(first.stderr().contains("share one log"), "{}", first.stderr());
}
