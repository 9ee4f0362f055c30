//! Channels whose newest event was removed from the log, or lies before what was: a hub that loads
//! it tells a gap only to clients that may have missed something.

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use visnyk_loadtest::RedisServer;

use super::hubs::{hub_on, publish_when_back};
use crate::support::{PATIENCE, TestHub, ndjson, seq, with_seq};

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

/// What was published: a few channels have many of the events, and others few.
struct Mixed {
    newest: String,
    /// The seqs of the events, and their channels.
    events: Vec<(u64, String)>,
}

impl Mixed {
    /// Publishes in batches, each with events of several channels.
    async fn publish(hub: &TestHub, rng: &mut fastrand::Rng) -> Self {
        let mut mixed = Self { newest: String::new(), events: Vec::new() };
        for _ in 0..60 {
            let pick = |rng: &mut fastrand::Rng| (0..3).map(|_| rng.usize(..30)).min();
            let channels: Vec<String> =
                (0..rng.usize(2..=20)).map(|_| format!("c{}", pick(rng).expect("three"))).collect();
            let lines = ndjson(channels.iter().map(|channel| (Some(channel.as_str()), "x")));
            let json = [("Content-Type", "application/x-ndjson")];
            let batch = hub.request("POST", "/v1/events", &json, &lines).await;
            assert_eq!(batch.status(), 201, "{}", batch.body);
            mixed.newest = batch.json()["last_id"].as_str().expect("a position").to_owned();
            let first = seq(&mixed.newest) + 1 - channels.len() as u64;
            mixed.events.extend((first..).zip(channels));
        }
        mixed
    }

    /// Whether an event of a channel between two positions is not there any more.
    fn has_lost(&self, channel: &str, after: u64, first_kept: u64) -> bool {
        let mut removed =
            self.events.iter().filter(|(seq, _)| (after + 1..first_kept).contains(seq));
        removed.any(|(_, other)| other == channel)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_sent_where_an_event_of_the_channel_was_removed_and_nowhere_else() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &SETTINGS).await;
    let mut rng = fastrand::Rng::with_seed(54);
    let mixed = Mixed::publish(&hub, &mut rng).await;
    let kept = server.command(&["XRANGE", "{visnyk}:log", "-", "+", "COUNT", "1"]);
    let id = kept.lines().find_map(|line| line.strip_suffix("-0")).expect("an entry");
    let first_kept: u64 = id.parse().expect("a seq");
    let started = hub_on(&server, &SETTINGS).await;
    let (oldest, mut gaps) = (mixed.events[0].0, 0);
    for channel in (0..31).map(|number| format!("c{number}")) {
        let mut positions = vec![first_kept - 2, first_kept - 1, first_kept];
        positions.extend((0..6).map(|_| rng.u64(oldest..first_kept)));
        // At the events of the channel, and right before them.
        let own = mixed.events.iter().filter(|(seq, of)| *of == channel && *seq < first_kept);
        positions.extend(own.rev().take(3).flat_map(|(seq, _)| [*seq - 1, *seq]));
        for after in positions {
            let is_lost = mixed.has_lost(&channel, after, first_kept);
            let expected = if is_lost { "evicted".into() } else { Value::Null };
            let from = with_seq(&mixed.newest, after);
            let sent = gap(&started, &format!("channel={channel}"), &from).await;
            assert_eq!(sent, expected, "{channel} from {from}, of a log from {first_kept}");
            gaps += usize::from(is_lost);
        }
    }
    assert!(gaps > 20, "{gaps}");
}

/// Appends an event as a hub of an earlier version does, which knows of no index: one like the
/// newest, to another channel.
const APPEND_AS_BEFORE: &str = "
    local log, meta = '{visnyk}:log', '{visnyk}:meta'
    local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    local last = string.format('%.0f', tonumber(redis.call('HGET', meta, 'last')) + 1)
    local entry = string.gsub(newest[2][2], 'quiet', 'other')
    entry = string.sub(entry, 1, 1) .. 'earlier!' .. string.sub(entry, 10)
    redis.call('XADD', log, last .. '-0', 'e', entry, 'p', redis.call('HGET', meta, 'nonce'))
    redis.call('HSET', meta, 'last', last, 'nonce', 'earlier!')
    return 'done'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_an_earlier_version_leaves_open_what_was_before_it() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &SETTINGS).await;
    let other = hub.publish("other", "1").await;
    let after = hub.publish("after", "1").await;
    flood(&hub).await;
    hub.publish("quiet", "1").await;
    assert!(server.command(&["EVAL", APPEND_AS_BEFORE, "0"]).contains("done"));
    let deadline = Instant::now() + PATIENCE;
    while hub.retained("channel=other", "earliest").await != ["1", "1"] {
        assert!(Instant::now() < deadline, "{}", hub.stderr());
    }
    hub.publish("after", "2").await;
    let next = hub.publish("after", "3").await;
    let started = hub_on(&server, &SETTINGS).await;
    for (query, from, expected) in [
        // It is not known, though nothing is missing.
        ("channel=other", &other, "evicted".into()),
        ("channel=after", &after, "evicted".into()),
        ("channel=quiet", &other, Value::Null),
        ("channel=after", &next, Value::Null),
    ] {
        assert_eq!(gap(&started, query, from).await, expected, "{query} from {from}");
    }
    // An entry of this version is known to be the next of its channel.
    flood(&hub).await;
    hub.publish("after", "4").await;
    hub.publish("other", "2").await;
    let started = hub_on(&server, &SETTINGS).await;
    assert_eq!(gap(&started, "channel=after", &next).await, Value::Null);
    assert_eq!(gap(&started, "channel=after", &after).await, "evicted");
    assert_eq!(gap(&started, "channel=other", &after).await, "evicted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hub_of_an_earlier_version_appends_may_be_of_any_channel() {
    let server = RedisServer::start(&[]);
    let hub = hub_on(&server, &SETTINGS).await;
    let twice = hub.publish("twice", "1").await;
    let quiet = hub.publish("quiet", "1").await;
    let script = APPEND_AS_BEFORE;
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
