//! Any hub takes a publish or a subscriber, and a client may come back to any of them.

use std::time::Duration;

use tokio::time::Instant;
use visnyk_loadtest::{Exchange, RedisServer};

use super::hubs::{hub_on, try_publish};
use crate::support::{PATIENCE, data_of, seq, with_seq};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_at_another_hub_where_it_was() {
    let server = RedisServer::start(&[]);
    let (a, b) = (hub_on(&server, &[]).await, hub_on(&server, &[]).await);
    let mut on_b = b.stream("channel=a", "now").await;
    for n in 1..=3 {
        a.publish("a", &n.to_string()).await;
    }
    assert_eq!(data_of(&mut on_b, 3).await, ["1", "2", "3"]);
    let position = on_b.position().expect("a position").to_owned();
    on_b.cut().expect("it is open");
    let last = b.publish("a", "4").await;
    assert_eq!(seq(&last), seq(&position) + 1, "numbers have no holes");
    // By a stream and by a poll, at the other one.
    let mut on_a = a.stream("channel=a", &position).await;
    assert_eq!(data_of(&mut on_a, 1).await, ["4"]);
    assert_eq!(a.retained("channel=**", &position).await, ["4"]);
    assert_eq!(a.poll_now("channel=a", &last).await, serde_json::Value::Null);
    // And at one that has just started.
    let c = hub_on(&server, &[]).await;
    assert_eq!(c.retained("channel=a", &position).await, ["4"]);
    assert_eq!(c.retained("channel=a", "earliest").await, ["1", "2", "3", "4"]);
    assert!(c.poll_now("channel=a", &position).await["gap"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_hubs_show_one_order() {
    let server = RedisServer::start(&[]);
    let hubs = [hub_on(&server, &[]).await, hub_on(&server, &[]).await];
    let mut streams = Vec::new();
    for hub in &hubs {
        streams.push(hub.stream("channel=**", "now").await);
    }
    let publishers = (0..4).map(|publisher| {
        let address = hubs[publisher % 2].address();
        tokio::spawn(async move {
            let mut exchange = Exchange::new(address);
            let mut acknowledged = Vec::new();
            for n in 0..PUBLISHES {
                let lines: String = (0..=n % 3)
                    .map(|line| format!("{{\"data\":\"{publisher}.{n}.{line}\"}}\n"))
                    .collect();
                let target = format!("/v1/channels/{}/events", ["a", "b"][n % 2]);
                let fields = [("Content-Type", "application/x-ndjson")];
                let answer =
                    exchange.request("POST", &target, &fields, lines.as_bytes(), PATIENCE).await;
                let answer = answer.expect("an answer");
                assert_eq!(answer.status(), 201, "{}", answer.body);
                let first = seq(answer.json()["first_id"].as_str().expect("a position"));
                acknowledged.extend(
                    (0..=n % 3).map(|i| (first + i as u64, format!("{publisher}.{n}.{i}"))),
                );
            }
            acknowledged
        })
    });
    let mut expected = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        expected.extend(publisher.await.expect("it ends"));
    }
    expected.sort();
    assert!(
        expected.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0),
        "each seq once, and no hole"
    );
    let expected: Vec<String> = expected.into_iter().map(|(_, data)| data).collect();
    for stream in &mut streams {
        assert_eq!(data_of(stream, expected.len()).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_closed_channels_hold_at_all_hubs() {
    let server = RedisServer::start(&[]);
    let (a, b) = (hub_on(&server, &[]).await, hub_on(&server, &[]).await);
    let key = [("Idempotency-Key", "k")];
    let first = a.request("POST", "/v1/channels/a/events", &key, "1").await;
    assert_eq!(first.status(), 201, "{}", first.body);
    let again = b.request("POST", "/v1/channels/a/events", &key, "1").await;
    assert_eq!((again.status(), &again.body), (201, &first.body));
    assert_eq!(again.head.field("idempotent-replayed"), Some("true"));
    let other = b.request("POST", "/v1/channels/a/events", &key, "2").await;
    assert_eq!(other.status(), 422, "{}", other.body);
    assert_eq!(b.retained("channel=a", "earliest").await, ["1"]);

    let mut on_b = b.stream("channel=a", "now").await;
    assert_eq!(a.request("DELETE", "/v1/channels/a", &[], "").await.status(), 204);
    let closed = on_b.next_event(PATIENCE).await.expect("a block").expect("an event");
    assert_eq!(closed.event.as_deref(), Some("visnyk.closed"));
    for hub in [&b, &a, &hub_on(&server, &[]).await] {
        let refused = try_publish(hub, "2").await;
        assert_eq!(refused.status(), 410, "{}", refused.body);
        assert_eq!(hub.channel("a").await["closed"], true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_a_hub_has_not_come_to_is_waited_for_and_is_neither_gap_nor_replay() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[("backend.catch_up_wait_ms", "400")]).await;
    let position = hub.publish("a", "1").await;
    let ahead = with_seq(&position, seq(&position) + 1);
    let query = "/v1/poll?timeout=0&channel=a";
    let begun = Instant::now();
    let refused = hub.request("GET", query, &[("Last-Event-ID", &ahead)], "").await;
    assert_eq!(refused.status(), 503, "{}", refused.body);
    assert!(refused.head.field("retry-after").is_some());
    assert!(begun.elapsed() >= Duration::from_millis(400));
    let from = [("Last-Event-ID", ahead.as_str())];
    let waiting = hub.request("GET", query, &from, "");
    let (waited, _) = tokio::join!(waiting, hub.publish("a", "2"));
    assert_eq!(waited.status(), 204, "{}", waited.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_waits_for_the_id_that_another_hub_has_given() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[("backend.catch_up_wait_ms", "400")]).await;
    hub.publish("default", "1").await;
    let first = hub.get("/subscribe?after=0").await.json();
    assert_eq!(first["message"], "1");
    let id = first["id"].as_u64().expect("a number");
    // It has not come to the next event: the first one would be a repetition.
    let ahead = format!("/subscribe?after={}", id + 1);
    let refused = hub.request("GET", &ahead, &[], "").await;
    assert_eq!(refused.status(), 503, "{}", refused.body);
    let publishes = async {
        hub.publish("default", "2").await;
        hub.publish("default", "3").await
    };
    let (waited, _) = tokio::join!(hub.get(&ahead), publishes);
    assert_eq!(waited.json()["message"], "3");
    // One of another log is far from it.
    let foreign = hub.get(&format!("/subscribe?after={}", id + 3_600_000_000)).await.json();
    assert_eq!(foreign["message"], "1");
}

const PUBLISHES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_starts_knows_all_closed_channels_and_none_that_is_open_again() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &[]).await;
    let last = seq(&hub.publish("a", "1").await);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now");
    let value = format!("{}:{}", now.as_millis(), last - 1);
    let script = "for n = 1, 3000 do redis.call('HSET', KEYS[1], 'c' .. n, ARGV[1]) end";
    server.command(&["EVAL", script, "1", "{visnyk}:closed", &value]);
    server.command(&["HSET", "{visnyk}:closed", "a", &value]);
    let hub = hub_on(&server, &[]).await;
    for channel in ["c1", "c1500", "c3000"] {
        assert_eq!(hub.channel(channel).await["closed"], true, "{channel}");
    }
    assert_eq!(hub.channel("a").await["closed"], false);
    assert_eq!(hub.retained("channel=a", "earliest").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hub_lists_its_own_connections_under_its_name() {
    let server = RedisServer::start(&[]);
    for node in ["one", "two"] {
        let hub = hub_on(&server, &[("node", node)]).await;
        let _stream = hub.stream("channel=a", "now").await;
        let listed = hub.get("/v1/connections").await.json();
        let connections = listed["connections"].as_array().expect("an array");
        assert_eq!(connections.len(), 1);
        assert_eq!(connections[0]["node"], node);
    }
}
