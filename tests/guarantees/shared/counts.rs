//! How many subscribers a channel has at all hubs, and what is said when that is not known.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use visnyk_loadtest::RedisServer;

use super::hubs::hub_on;
use crate::support::{PATIENCE, TestHub};

/// Reports follow each other fast, and a hub that ends counts for a second and a half.
const FAST: [(&str, &str); 2] =
    [("backend.counts_interval_ms", "100"), ("backend.counts_expiry_ms", "1500")];

const REPORTS_TAKEN: &str = r#"visnyk_backend_reports_total{reason="taken"}"#;

/// Waits until a hub counts so many streams and polls at so many hubs, and knows that these are
/// all.
async fn await_counted(hub: &TestHub, channel: &str, streams: u64, pollers: u64, hubs: u64) {
    let wanted = |info: &Value| {
        let counts = (&info["subscribers"], &info["pollers"]);
        counts == (&json!(streams), &json!(pollers))
            && info["counted"]["hubs"] == hubs
            && info["counted"]["complete"] == true
    };
    hub.wait_for_channel(channel, wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_shows_the_subscribers_of_all_hubs_and_a_killed_one_leaves_after_the_expiry() {
    let server = RedisServer::start(&[]);
    let (a, b) = (hub_on(&server, &FAST).await, hub_on(&server, &FAST).await);
    let mut c = hub_on(&server, &FAST).await;
    // By its name, by patterns, among others; and by a poll.
    let _on_a = a.stream("channel=x", "now").await;
    let _on_b = [b.stream("channel=x&channel=y", "now").await, b.stream("channel=**", "now").await];
    let on_c = c.stream("channel=*", "now").await;
    let address = c.address();
    let poll = tokio::spawn(async move {
        let mut exchange = visnyk_loadtest::Exchange::new(address);
        exchange.request("GET", "/v1/poll?channel=x&timeout=30", &[], b"", PATIENCE).await
    });
    for hub in [&a, &b, &c] {
        await_counted(hub, "x", 4, 1, 3).await;
        // No event, and no subscription at the other hubs that names it.
        await_counted(hub, "y", 3, 0, 3).await;
    }
    // Subscribers of a pattern alone.
    for hub in [&a, &b, &c] {
        assert_eq!(hub.channel("x/y").await, Value::Null, "they make no channel");
    }
    let info = a.channel("x").await;
    assert!(info["counted"]["age_ms"].as_u64().is_some_and(|age| age < 1_500), "{info}");
    assert_eq!(a.metric("visnyk_backend_hubs").await, 3.0);
    assert_eq!(b.metric("visnyk_backend_reported_channels").await, 2.0);
    // What ends is not counted any more.
    drop(on_c);
    await_counted(&a, "x", 3, 1, 3).await;
    let killed = Instant::now();
    c.kill().await.expect("it is killed");
    let _ = poll.await;
    assert_eq!(a.channel("x").await["counted"]["hubs"], 3, "its report has not expired");
    await_counted(&a, "x", 3, 0, 2).await;
    await_counted(&b, "x", 3, 0, 2).await;
    assert!(killed.elapsed() >= Duration::from_millis(1_000), "{:?}", killed.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_ends_in_good_order_leaves_at_once() {
    let server = RedisServer::start(&[]);
    let settings = [
        ("backend.counts_interval_ms", "100"),
        ("backend.counts_expiry_ms", "600000"),
        ("drain_window_s", "0"),
    ];
    let a = hub_on(&server, &settings).await;
    let mut b = hub_on(&server, &settings).await;
    let _on_a = a.stream("channel=x", "now").await;
    await_counted(&a, "x", 1, 0, 2).await;
    b.signal(Signal::TERM).expect("it runs");
    b.wait(PATIENCE).await.expect("it ends");
    let info = a.channel("x").await;
    assert_eq!((&info["counted"]["hubs"], &info["subscribers"]), (&json!(1), &json!(1)), "{info}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_a_hub_counts_its_own_and_says_so() {
    let mut server = RedisServer::start(&[]);
    let (a, b) = (hub_on(&server, &FAST).await, hub_on(&server, &FAST).await);
    let _streams = [a.stream("channel=x", "now").await, b.stream("channel=x", "now").await];
    await_counted(&a, "x", 2, 0, 2).await;
    // One that does not answer holds an answer up for a second.
    server.pause();
    let begun = Instant::now();
    let info = a.channel("x").await;
    assert_eq!(info["counted"]["complete"], false, "{info}");
    assert_eq!((&info["subscribers"], &info["counted"]["hubs"]), (&json!(1), &json!(1)), "{info}");
    assert_eq!(info["counted"]["reason"], "late", "{info}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    server.resume();
    await_counted(&a, "x", 2, 0, 2).await;
    server.kill();
    a.wait_for_channel("x", |info| {
        assert!(info["counted"]["complete"] == true || info["subscribers"] == 1, "{info}");
        info["counted"]["reason"] == "backend_away"
    })
    .await;
    let away = r#"visnyk_backend_uncounted_total{reason="backend_away"}"#;
    assert!(a.metric(away).await >= 1.0);
    server.start_again();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let info = a.channel("x").await;
        if info["subscribers"] == 2 && info["counted"]["complete"] == true {
            break;
        }
        // Never a part of the hubs as if it were all.
        assert_eq!(info["counted"]["complete"], false, "{info}");
        assert!(Instant::now() < deadline, "{info}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_the_reports_is_given_them_again_and_no_part_of_them_counts_as_all() {
    let server = RedisServer::start(&[]);
    let hubs = [hub_on(&server, &FAST).await, hub_on(&server, &FAST).await];
    let mut streams = Vec::new();
    for hub in &hubs {
        streams.push(hub.stream("channel=x", "now").await);
    }
    await_counted(&hubs[0], "x", 2, 0, 2).await;
    // The reports alone: the log stays.
    let keys = server.command(&["KEYS", "{visnyk}:hubs*"]);
    let keys: Vec<&str> = keys.lines().filter(|line| line.starts_with("{visnyk}")).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
    let ttl = server.command(&["PTTL", keys[0]]);
    let ttl = ttl.lines().next().and_then(|line| line.strip_prefix(':')?.parse::<u64>().ok());
    let ttl = ttl.expect("a number");
    assert!((1..=1_500).contains(&ttl), "{ttl}");
    for _ in 0..5 {
        server.command(&[&["DEL"], &keys[..]].concat());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let info = hubs[0].channel("x").await;
            if info["counted"]["complete"] == true {
                assert_eq!(info["subscribers"], 2, "{info}");
                break;
            }
            assert!(Instant::now() < deadline, "{info}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_of_a_report_that_begins_anew_are_read_anew() {
    let server = RedisServer::start(&[]);
    let (a, b) = (hub_on(&server, &FAST).await, hub_on(&server, &FAST).await);
    let on_a = a.stream("channel=x", "now").await;
    // Those of the first part of the report of b.
    await_counted(&a, "x", 1, 0, 2).await;
    let on_b = [b.stream("channel=**", "now").await, b.stream("channel=*", "now").await];
    let reported = b.metric(REPORTS_TAKEN).await;
    let deadline = Instant::now() + PATIENCE;
    while b.metric(REPORTS_TAKEN).await < reported + 2.0 {
        assert!(Instant::now() < deadline, "{}", b.stderr());
        sleep(Duration::from_millis(10)).await;
    }
    // No question has come since, and then the reports are lost.
    let keys = server.command(&["KEYS", "{visnyk}:hubs*"]);
    let keys: Vec<&str> = keys.lines().filter(|line| line.starts_with("{visnyk}")).collect();
    server.command(&[&["DEL"], &keys[..]].concat());
    await_counted(&a, "x", 3, 0, 2).await;
    drop((on_a, on_b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_with_more_channels_than_it_may_report_makes_a_sum_incomplete() {
    let server = RedisServer::start(&[]);
    let few = [FAST[0], FAST[1], ("backend.counts_channels_max", "2")];
    let (a, b) = (hub_on(&server, &FAST).await, hub_on(&server, &few).await);
    let _on_a = a.stream("channel=z", "now").await;
    let on_b = b.stream("channel=p&channel=q", "now").await;
    await_counted(&a, "q", 1, 0, 2).await;
    await_counted(&a, "z", 1, 0, 2).await;
    // At the limit, and above it.
    let more = b.stream("channel=z", "now").await;
    a.wait_for_channel("z", |info| info["counted"]["reason"] == "too_many_channels").await;
    let info = a.channel("z").await;
    let expected = json!({"hubs": 2, "complete": false, "reason": "too_many_channels"});
    for member in ["hubs", "complete", "reason"] {
        assert_eq!(info["counted"][member], expected[member], "{info}");
    }
    // One that it does report.
    await_counted(&a, "q", 1, 0, 2).await;
    drop((on_b, more));
    await_counted(&a, "z", 1, 0, 2).await;
    for (settings, says) in [
        ([("backend.counts_interval_ms", "0")], "100"),
        ([("backend.counts_interval_ms", "9000")], "twice the interval"),
    ] {
        let command = visnyk_loadtest::HubCommand::new(env!("CARGO_BIN_EXE_visnyk"));
        let command = command.settings(&[("backend.url", &server.url())]).settings(&settings);
        let error = command.start().await.expect_err("it does not start").to_string();
        assert!(error.contains(says), "{error}");
    }
}
