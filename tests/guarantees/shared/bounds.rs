//! What the log in Redis keeps, and a server whose memory is full.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use visnyk_loadtest::RedisServer;

use super::hubs::{gap_of, hub_on, try_publish};
use crate::support::{PATIENCE, seq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_what_its_bound_of_bytes_says() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[("backend.bytes_max", "100000")]).await;
    let first = hub.publish("a", "1").await;
    let data = vec!["x".repeat(1_000); 50];
    let mut last = String::new();
    for _ in 0..6 {
        last = hub.publish_all("a", &data).await;
    }
    let kept = hub.metric("visnyk_backend_kept_bytes").await;
    // A large append more, at most.
    assert!((50_000.0..=160_000.0).contains(&kept), "{kept}");
    let events = hub.metric("visnyk_backend_kept_events").await;
    assert!((45.0..=150.0).contains(&events), "{events}");
    let other = hub_on(&server, &[]).await;
    assert_eq!(other.retained("channel=a", "earliest").await.len() as f64, events);
    let (gap, _) = gap_of(&other, &first).await;
    assert_eq!(gap["reason"], "evicted", "{gap}");
    let oldest = seq(gap["oldest"].as_str().expect("a position"));
    assert_eq!((seq(&last) - oldest) as f64, events, "{gap}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_events_as_long_as_its_bound_of_age_says() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[("backend.age_max_s", "1")]).await;
    hub.publish_all("a", &vec!["x".to_owned(); 50]).await;
    let begun = Instant::now();
    let deadline = begun + PATIENCE;
    // With each append what is too old is removed.
    while hub.metric("visnyk_backend_kept_events").await > 40.0 {
        assert!(Instant::now() < deadline, "nothing is removed");
        hub.publish("a", "y").await;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_publishes_answers_known_keys_and_goes_on_by_itself() {
    let server = RedisServer::start(&["--maxmemory", "8mb"]);
    let hub = hub_on(&server, &[("backend.age_max_s", "3")]).await;
    let key = [("Idempotency-Key", "k")];
    let acknowledged = hub.request("POST", "/v1/channels/a/events", &key, "1").await;
    assert_eq!(acknowledged.status(), 201, "{}", acknowledged.body);
    let large = "x".repeat(100_000);
    let deadline = Instant::now() + PATIENCE;
    let full = loop {
        let answer = try_publish(&hub, &large).await;
        if answer.status() != 201 {
            break answer;
        }
        assert!(Instant::now() < deadline, "its memory is never full");
    };
    assert_eq!(full.status(), 507, "{}", full.body);
    let again = hub.request("POST", "/v1/channels/a/events", &key, "1").await;
    assert_eq!((again.status(), &again.body), (201, &acknowledged.body));
    // What is too old is removed by the publishes that are refused.
    while try_publish(&hub, &large).await.status() != 201 {
        assert!(Instant::now() < deadline, "it stays full");
        sleep(Duration::from_millis(50)).await;
    }
}
