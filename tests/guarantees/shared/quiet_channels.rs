//! Channels whose newest event was removed from the log, or lies before what was: a hub that loads it tells a gap only
//! to clients that may have missed something.

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::RedisServer;

use super::hubs::{hub_on, publish_when_back};
use crate::support::{PATIENCE, TestHub};

const SETTINGS: [(&str, &str); 2] =
    [("backend.events_max", "100"), ("backend.batch_events_max", "100")];

/// Has the log remove all that was published before.
async fn flood(hub: &TestHub) {
    let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for _ in 0..4 {
        hub.publish_all("busy", &lines).await;
    }
}

/// The reason of the gap that a client of these channels gets with its position.
async fn gap(hub: &TestHub, query: &str, from: &str) -> Value {
    hub.poll_now(query, from).await["gap"]["reason"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_starts_tells_a_gap_for_channels_that_have_lost_events_alone() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &SETTINGS).await;
    let busy = hub.publish("busy", "0").await;
    let lost = hub.publish("l/lost", "1").await;
    let newest = hub.publish("l/lost", "2").await;
    let lines = "{\"data\":\"x\",\"channel\":\"x\"}\n{\"data\":\"y\",\"channel\":\"y\"}\n\
                 {\"data\":\"x\",\"channel\":\"x\"}\n{\"data\":\"z\",\"channel\":\"z\"}\n";
    let json = [("Content-Type", "application/x-ndjson")];
    let batch = hub.request("POST", "/v1/events", &json, lines).await;
    assert_eq!(batch.status(), 201, "{}", batch.body);
    let ids = |seq: u64| {
        let (epoch, first) = newest.rsplit_once('-').expect("a position");
        format!("{epoch}-{}", first.parse::<u64>().expect("a seq") + seq)
    };
    flood(&hub).await;
    // One that starts, and one that fell off.
    let other = hub_on(&server, &SETTINGS).await;
    other.signal(Signal::STOP).expect("it runs");
    flood(&hub).await;
    let started = hub_on(&server, &SETTINGS).await;
    other.signal(Signal::CONT).expect("it is stopped");
    let deadline = Instant::now() + PATIENCE;
    let fell_off = r#"visnyk_backend_changes_total{reason="fell_off"}"#;
    while other.metric(fell_off).await < 1.0 || other.get("/readyz").await.status() != 200 {
        assert!(Instant::now() < deadline, "it does not notice: {}", other.stderr());
        sleep(std::time::Duration::from_millis(20)).await;
    }
    for hub in [&started, &other] {
        for (query, from, expected) in [
            ("channel=l/lost", &lost, "evicted".into()),
            ("channel=l/lost", &newest, Value::Null),
            ("channel=never", &lost, Value::Null),
            ("channel=x", &ids(2), "evicted".into()),
            ("channel=x", &ids(3), Value::Null),
            ("channel=y", &ids(1), "evicted".into()),
            ("channel=y", &ids(2), Value::Null),
            ("channel=x&channel=z", &ids(3), "evicted".into()),
            ("channel=x&channel=z", &ids(4), Value::Null),
            ("channel=busy", &busy, "evicted".into()),
            ("channel=**", &newest, "evicted".into()),
            ("channel=l/*", &newest, Value::Null),
            ("channel=l/*", &lost, "evicted".into()),
        ] {
            assert_eq!(gap(hub, query, from).await, expected, "{query} from {from}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hub_of_an_earlier_version_appends_may_be_of_any_channel() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &SETTINGS).await;
    let twice = hub.publish("twice", "1").await;
    let quiet = hub.publish("quiet", "1").await;
    // As one that knows of no index.
    let script = "
        local log, meta = '{visnyk}:log', '{visnyk}:meta'
        local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
        local last = string.format('%.0f', tonumber(redis.call('HGET', meta, 'last')) + 1)
        local entry = string.gsub(newest[2][2], 'quiet', 'other')
        entry = string.sub(entry, 1, 1) .. 'earlier!' .. string.sub(entry, 10)
        redis.call('XADD', log, last .. '-0', 'e', entry, 'p', redis.call('HGET', meta, 'nonce'))
        redis.call('HSET', meta, 'last', last, 'nonce', 'earlier!')
        return 'done'";
    assert!(server.command(&["EVAL", script, "0"]).contains("done"));
    // To a channel that the index has with an event of before.
    let again = script.replace("'quiet', 'other'", "'other', 'twice'");
    let again = again.replace("earlier!", "earlier2");
    assert!(server.command(&["EVAL", &again, "0"]).contains("done"));
    let deadline = Instant::now() + PATIENCE;
    while hub.retained("channel=twice", "earliest").await != ["1", "1"] {
        assert!(Instant::now() < deadline, "{}", hub.stderr());
    }
    let after = hub.publish("quiet", "2").await;
    flood(&hub).await;
    let started = hub_on(&server, &SETTINGS).await;
    for (query, from, expected) in [
        ("channel=other", &quiet, "evicted".into()),
        ("channel=other", &after, Value::Null),
        ("channel=twice", &twice, "evicted".into()),
        ("channel=twice", &after, Value::Null),
        ("channel=quiet", &after, Value::Null),
        // It cannot be known.
        ("channel=never", &quiet, "evicted".into()),
    ] {
        assert_eq!(gap(&started, query, from).await, expected, "{query} from {from}");
    }
    // While it is the newest entry, nothing at all is known of quiet channels.
    let script = script.replace("'quiet', 'other'", "'busy', 'else'");
    assert!(server.command(&["EVAL", &script, "0"]).contains("done"));
    let started = hub_on(&server, &SETTINGS).await;
    assert_eq!(gap(&started, "channel=quiet", &after).await, "evicted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channels_that_were_quiet_for_longest_share_one_bound() {
    let server = RedisServer::start(&[]);
    let settings = [&SETTINGS[..], &[("limits.channels.forgotten_max", "10")]].concat();
    let hub = hub_on(&server, &settings).await;
    let mut last = Vec::new();
    for number in 0..50 {
        last.push(hub.publish(&format!("c{number}"), "x").await);
    }
    flood(&hub).await;
    let number = |command: &[&str]| -> u64 {
        let answer = server.command(command);
        answer.lines().next().and_then(|line| line[1..].parse().ok()).expect("a number")
    };
    let kept = number(&["XLEN", "{visnyk}:log"]);
    assert!(number(&["ZCARD", "{visnyk}:channels"]) <= kept + 10, "{kept}");
    let started = hub_on(&server, &settings).await;
    for (at, expected) in
        [(0, "evicted".into()), (30, "evicted".into()), (45, Value::Null), (49, Value::Null)]
    {
        let query = format!("channel=c{at}");
        assert_eq!(gap(&started, &query, &last[at]).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_leaves_what_is_known_of_channels() {
    let mut server = RedisServer::start(&[]);
    let hub = hub_on(&server, &SETTINGS).await;
    hub.publish("before", "1").await;
    server.back_up();
    let lost = hub.publish("a", "2").await;
    server.put_back();
    let after = publish_when_back(&hub, "3").await;
    assert_ne!(after.split('-').next(), lost.split('-').next(), "another epoch");
    flood(&hub).await;
    let started = hub_on(&server, &SETTINGS).await;
    for (query, from, expected) in [
        ("channel=a", &after, Value::Null),
        ("channel=before", &after, Value::Null),
        ("channel=before", &lost, "epoch".into()),
    ] {
        assert_eq!(gap(&started, query, from).await, expected, "{query} from {from}");
    }
}
